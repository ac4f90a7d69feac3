//! The names of keys and channels. All names of a scope have its text as the hash tag, so that a Redis Cluster keeps
//! them on one node.

use wire::{InstanceId, Name, Scope};

/// Builds every Redis name, with one prefix.
///
/// ```
/// use keyspace::Keyspace;
/// use wire::{Families, Name};
/// let keys = Keyspace::new(Name::parse("tidegate").unwrap());
/// let scope = Families::default().parse_scope("acme/collection:42").unwrap();
/// assert_eq!(keys.channel(&scope), "tidegate:{acme/collection:42}");
/// assert_eq!(keys.stream(&scope), "tidegate:{acme/collection:42}:stream");
/// assert_eq!(keys.meta(&scope), "tidegate:{acme/collection:42}:meta");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    prefix: Name,
}

impl Default for Keyspace {
    /// The prefix `tidegate`.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().prefix(), "tidegate");
    /// ```
    fn default() -> Self {
        Self { prefix: Name::parse("tidegate").expect("lower-case letters are a name") }
    }
}

impl Keyspace {
    /// Names with this prefix. Two deployments on one Redis use different prefixes.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Name;
    /// assert_eq!(Keyspace::new(Name::parse("staging").unwrap()).prefix(), "staging");
    /// // A prefix with a brace or a colon would break the hash tag; it is not a valid name:
    /// assert!(Name::parse("a{b").is_err());
    /// ```
    #[must_use]
    pub fn new(prefix: Name) -> Self {
        Self { prefix }
    }

    /// The first part of every name.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().prefix(), "tidegate");
    /// ```
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// The pub/sub channel on which the messages of a scope arrive, as [`wire::Envelope`]s.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/system").unwrap();
    /// assert_eq!(Keyspace::default().channel(&scope), "tidegate:{acme/system}");
    /// ```
    #[must_use]
    pub fn channel(&self, scope: &Scope) -> String {
        self.scoped(scope, "")
    }

    /// The stream that keeps the messages of a scope. The id of an entry is the message's [`wire::Position`].
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/user:7").unwrap();
    /// assert_eq!(Keyspace::default().stream(&scope), "tidegate:{acme/user:7}:stream");
    /// ```
    #[must_use]
    pub fn stream(&self, scope: &Scope) -> String {
        self.scoped(scope, ":stream")
    }

    /// The hash with the generation and the newest offset of a scope.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/user:7").unwrap();
    /// assert_eq!(Keyspace::default().meta(&scope), "tidegate:{acme/user:7}:meta");
    /// ```
    #[must_use]
    pub fn meta(&self, scope: &Scope) -> String {
        self.scoped(scope, ":meta")
    }

    /// The hashes with the publish ids of a scope: one for even windows of time and one for odd ones.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/user:7").unwrap();
    /// assert_eq!(Keyspace::default().ids(&scope), ["tidegate:{acme/user:7}:ids:0", "tidegate:{acme/user:7}:ids:1"]);
    /// ```
    #[must_use]
    pub fn ids(&self, scope: &Scope) -> [String; 2] {
        [self.scoped(scope, ":ids:0"), self.scoped(scope, ":ids:1")]
    }

    /// How long the hash [`Self::meta`] is kept at least after a gateway was last seen to subscribe to its scope, in
    /// ms: one week, because it must outlive its stream.
    ///
    /// ```
    /// assert_eq!(keyspace::Keyspace::META_KEPT_MS, 604_800_000);
    /// ```
    pub const META_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

    /// The same for a scope without a message, in ms: one hour. Anybody who may subscribe can begin any number of these.
    ///
    /// ```
    /// assert_eq!(keyspace::Keyspace::UNUSED_KEPT_MS, 3_600_000);
    /// ```
    pub const UNUSED_KEPT_MS: u64 = 60 * 60 * 1_000;

    /// The fields of the hash [`Self::meta`] with the generation and the newest offset.
    ///
    /// ```
    /// assert_eq!(keyspace::Keyspace::TOP_FIELDS, ["g", "o"]);
    /// ```
    pub const TOP_FIELDS: [&str; 2] = ["g", "o"];

    /// A key without content: a write after everything stored before, to which a WAIT can refer.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/user:7").unwrap();
    /// assert_eq!(Keyspace::default().mark(&scope), "tidegate:{acme/user:7}:mark");
    /// ```
    #[must_use]
    pub fn mark(&self, scope: &Scope) -> String {
        self.scoped(scope, ":mark")
    }

    /// The channel on which an instance sends messages to itself, to check that Redis delivers.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().probe_channel(&gw), "tidegate:probe:gw-1");
    /// ```
    #[must_use]
    pub fn probe_channel(&self, instance: &InstanceId) -> String {
        format!("{}:probe:{instance}", self.prefix)
    }

    /// The probe channel on one node of a Redis Cluster. The number is chosen so that the slot of the channel is on
    /// that node.
    ///
    /// ```
    /// # use keyspace::{Keyspace, Slot};
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// let channel = Keyspace::default().probe_channel_at(&gw, 17);
    /// assert_eq!(channel, "tidegate:probe:gw-1:{17}");
    /// assert_eq!(Slot::of(&channel), Slot::of("17"));
    /// ```
    #[must_use]
    pub fn probe_channel_at(&self, instance: &InstanceId, number: u32) -> String {
        format!("{}:{{{number}}}", self.probe_channel(instance))
    }

    /// The name of an instance's connections in `CLIENT LIST`.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().client_name(&gw, "subscriber"), "tidegate:gw-1:subscriber");
    /// ```
    #[must_use]
    pub fn client_name(&self, instance: &InstanceId, role: &str) -> String {
        format!("{}:{instance}:{role}", self.prefix)
    }

    /// The text of the scope within the name of its channel, without a copy. None for other channels.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// let keys = Keyspace::default();
    /// assert_eq!(keys.scope_of_channel(b"tidegate:{acme/user:7}"), Some("acme/user:7"));
    /// assert_eq!(keys.scope_of_channel(b"tidegate:probe:gw-1"), None);
    /// assert_eq!(keys.scope_of_channel(b"another:{acme/user:7}"), None);
    /// ```
    #[must_use]
    pub fn scope_of_channel<'c>(&self, channel: &'c [u8]) -> Option<&'c str> {
        let rest = channel.strip_prefix(self.prefix.as_str().as_bytes())?;
        let scope = rest.strip_prefix(b":{")?.strip_suffix(b"}")?;
        std::str::from_utf8(scope).ok()
    }

    fn scoped(&self, scope: &Scope, suffix: &str) -> String {
        let (prefix, scope) = (self.prefix.as_str(), scope.as_str());
        let mut name = String::with_capacity(prefix.len() + scope.len() + suffix.len() + 3);
        for part in [prefix, ":{", scope, "}", suffix] {
            name.push_str(part);
        }
        name
    }
}
