//! The Redis function library: its text, and how its functions are called.

use std::fmt::Write as _;

use wire::FamilyShape;

/// The parts in loading order; later parts use the locals of earlier ones.
const PARTS: [&str; 14] = [
    include_str!("../lua/scope.lua"),
    include_str!("../lua/validate.lua"),
    include_str!("../lua/publish.lua"),
    include_str!("../lua/read.lua"),
    include_str!("../lua/lost.lua"),
    include_str!("../lua/probe.lua"),
    crate::presence::MEMBERS_LUA,
    crate::registry::LUA,
    crate::directory::LUA,
    crate::restores::LUA,
    crate::presence::LUA,
    crate::dead_letters::LUA,
    crate::receipts::LUA,
    crate::revocations::LUA,
];

/// Version of the library. It is raised when a newer library cannot serve an older gateway any more, or an older
/// library a newer gateway. An instance replaces a library of its own version or an older one, and does not replace a
/// newer one.
const VERSION: u32 = 5;

/// The shortest time for which a publish id is known, in ms. The longest time is twice as long.
pub const ID_WINDOW_MS: u64 = 120_000;

/// A family that keeps this many entries or fewer keeps exactly its number of them: the last XADD of a call trims with
/// `MAXLEN =`. In larger families it trims with `MAXLEN ~`, which leaves up to one node of the stream more (100 entries or
/// 4 KiB).
///
/// Exact trimming costs Redis 3 to 6 µs more for each call (7.0.15, 200 entries of 100 bytes).
pub const EXACT_ENTRIES_MAX: u64 = 200;

/// Most levels of nesting in a message that `tidegate_publish` accepts.
pub const DEPTH_MAX: usize = 128;

/// How an error reply begins if the library does not have the family of the scope.
pub const UNKNOWN_FAMILY: &str = "ERR there is no channel family";

/// One function of the library: its name and how it is called.
///
/// ```
/// use keyspace::Function;
/// assert_eq!(Function::PUBLISH.name, "tidegate_publish");
/// assert_eq!(Function::READ.command(), "FCALL_RO");
/// assert_eq!(Function::PUBLISH.keys, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// The name that `FCALL` takes.
    pub name: &'static str,
    /// Number of keys that it takes.
    pub keys: u8,
    /// Least number of arguments after the keys.
    pub args_min: u8,
    /// Whether it is declared to write nothing.
    pub read_only: bool,
}

impl Function {
    /// Checks, stores and publishes messages of one scope. Arguments: topic, message [, topic, message …].
    pub const PUBLISH: Self = Self { name: "tidegate_publish", keys: 2, args_min: 2, read_only: false };
    /// The same as [`Self::PUBLISH`], for messages with ids. Arguments: topic, message, id [, topic, message, id …].
    pub const PUBLISH_ONCE: Self = Self { name: "tidegate_publish_once", keys: 4, args_min: 3, read_only: false };
    /// The same as [`Self::PUBLISH`] for callers that have checked the messages: Redis spends less than two thirds of the
    /// time.
    pub const RELAY: Self = Self { name: "tidegate_relay", keys: 2, args_min: 2, read_only: false };
    /// The same as [`Self::RELAY`], for messages with ids.
    pub const RELAY_ONCE: Self = Self { name: "tidegate_relay_once", keys: 4, args_min: 3, read_only: false };
    /// Reads the newest position of a scope and the messages that it keeps; nil if the scope has not begun. Arguments:
    /// after, most entries.
    pub const READ: Self = Self { name: "tidegate_read", keys: 2, args_min: 2, read_only: true };
    /// The same as [`Self::READ`], but begins the scope's first generation if necessary.
    pub const OPEN: Self = Self { name: "tidegate_open", keys: 2, args_min: 2, read_only: false };
    /// Marks the loss of a message that was delivered; 1 if it is marked. Argument: the position of the message.
    pub const LOST: Self = Self { name: "tidegate_lost", keys: 2, args_min: 1, read_only: false };
    /// Sends a text to the probe channel of an instance, and compares the loaded library with that of the instance.
    /// Arguments: channel, text [, digest, precedence, ms until the next probe].
    pub const PROBE: Self = Self { name: "tidegate_probe", keys: 0, args_min: 2, read_only: false };
    /// Returns version, digest and precedence of the loaded library.
    pub const VERSION: Self = Self { name: "tidegate_version", keys: 0, args_min: 0, read_only: true };

    /// The Redis command that calls it.
    ///
    /// ```
    /// # use keyspace::Function;
    /// assert_eq!(Function::PUBLISH.command(), "FCALL");
    /// ```
    #[must_use]
    pub fn command(&self) -> &'static str {
        if self.read_only { "FCALL_RO" } else { "FCALL" }
    }
}

/// The text of the library with the families of one deployment compiled in, so that publishers need not know retention.
///
/// Redis has one namespace of functions for all its databases: gateways that share a Redis share the families. If their
/// families differ, the precedence of the libraries decides which one is loaded.
///
/// ```
/// use keyspace::Library;
/// use wire::Families;
/// let families = Families::default();
/// let hour = 60 * 60 * 1000;
/// let library = Library::new(families.iter().map(|(_, shape)| (shape, hour, 1000)));
/// assert!(library.source().starts_with("#!lua name=tidegate\n"));
/// assert!(library.source().contains("['system']={keyed=false,ttl=3600000,step=450000,entries=1000,trim='~'}"));
/// // Another retention makes another library:
/// let other = Library::new(families.iter().map(|(_, shape)| (shape, hour, 500)));
/// assert_ne!(library.digest(), other.digest());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    source: String,
    body: String,
    digest: String,
    precedence: u64,
}

/// The loaded library compared with this one, from the answer of `tidegate_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// The loaded library has the same text.
    Same,
    /// It is an older one, or one for other families with a lower precedence, and must be replaced.
    Replace,
    /// It is for other families, and has the same precedence or a higher one.
    Preferred,
    /// It belongs to a newer gateway, and serves older gateways too.
    Newer,
}

impl Library {
    /// The name of the library in `FUNCTION LIST`.
    pub const NAME: &'static str = "tidegate";

    /// The library for these families, each with its shape, its TTL in ms, and its most entries (0: no history).
    ///
    /// # Panics
    /// Panics if a TTL is 0. The configuration is checked before this call.
    #[must_use]
    pub fn new<'f>(families: impl IntoIterator<Item = (&'f FamilyShape, u64, u64)>) -> Self {
        let (mut table, mut names) = (String::new(), Vec::new());
        for (FamilyShape { name, keyed }, ttl_ms, entries_max) in families {
            assert!(ttl_ms > 0, "family {name}: a TTL is more than nothing");
            let step_ms = (ttl_ms / 8).max(1);
            let trim = if entries_max <= EXACT_ENTRIES_MAX { '=' } else { '~' };
            let row = format!("keyed={keyed},ttl={ttl_ms},step={step_ms},entries={entries_max},trim='{trim}'");
            write!(table, "['{name}']={{{row}}},").expect("a String takes everything");
            names.push(name.as_str());
        }
        let names = names.join(", ");
        let settings = format!(
            "local FAMILIES={{{table}}}\nlocal FAMILY_NAMES='{names}'\nlocal WINDOW_MS,DEPTH_MAX={ID_WINDOW_MS},{DEPTH_MAX}"
        );
        let body = format!("{settings}\n{}", PARTS.join("\n"));
        let digest = format!("{:016x}", fnv1a(body.as_bytes()));
        Self { source: String::new(), body, digest, precedence: 0 }.with_precedence(0)
    }

    /// The same library with this precedence. If instances have different families, the library with the highest
    /// precedence among the living instances is loaded.
    ///
    /// ```
    /// # use keyspace::Library;
    /// let library = Library::new([]).with_precedence(Library::precedence_of(2, 1_800_000_000_000));
    /// assert!(library.precedence() > Library::precedence_of(1, 1_900_000_000_000));
    /// assert_eq!(library.digest(), Library::new([]).digest());
    /// ```
    #[must_use]
    pub fn with_precedence(mut self, precedence: u64) -> Self {
        let Self { body, digest, .. } = &self;
        let head = format!("local VERSION,DIGEST,PRECEDENCE={VERSION},'{digest}',{precedence}");
        self.source = format!("#!lua name={}\n{head}\n{body}", Self::NAME);
        self.precedence = precedence;
        self
    }

    /// The precedence of an instance that was started at this time (Unix ms), with this revision of its families. Lua
    /// represents it exactly: it is below 2^53 if the revision is below 2,048.
    #[must_use]
    pub fn precedence_of(revision: u32, started_ms: u64) -> u64 {
        u64::from(revision) << 42 | started_ms & ((1 << 42) - 1)
    }

    /// The number by which instances with different families decide whose library is loaded.
    #[must_use]
    pub fn precedence(&self) -> u64 {
        self.precedence
    }

    /// The text for `FUNCTION LOAD REPLACE`.
    ///
    /// ```
    /// # use keyspace::Library;
    /// assert!(Library::new([]).source().contains("tidegate_publish"));
    /// ```
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A digest that distinguishes this text from others. It is not a protection.
    ///
    /// ```
    /// # use keyspace::Library;
    /// assert_eq!(Library::new([]).digest().len(), 16);
    /// ```
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Compares the loaded library with this one, by the answer of [`Function::VERSION`].
    ///
    /// ```
    /// # use keyspace::{Library, Loaded};
    /// let library = Library::new([]).with_precedence(7);
    /// assert_eq!(library.compare(5, library.digest(), 9), Loaded::Same);
    /// assert_eq!(library.compare(5, "0123456789abcdef", 6), Loaded::Replace);
    /// assert_eq!(library.compare(5, "0123456789abcdef", 7), Loaded::Preferred);
    /// assert_eq!(library.compare(1, "0123456789abcdef", 9), Loaded::Replace);
    /// assert_eq!(library.compare(99, "0123456789abcdef", 0), Loaded::Newer);
    /// ```
    #[must_use]
    pub fn compare(&self, version: u32, digest: &str, precedence: u64) -> Loaded {
        match version {
            VERSION if digest == self.digest => Loaded::Same,
            VERSION if precedence >= self.precedence => Loaded::Preferred,
            0..=VERSION => Loaded::Replace,
            _ => Loaded::Newer,
        }
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
