//! The names of channels, scopes and patterns. This module is their only parser.
//!
//! ```text
//!   collection:42:ops:cursor          family : id : topic          in tenant acme
//!   └──── scope ────┘└─topic─┘        one Redis channel, stream and sequence: {acme/collection:42}
//!   collection:42:*                   a pattern: one or more further segments, always of one scope
//!   system:maintenance                a family without ids: the scope is the family itself
//! ```

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::id::{BadName, TenantId, check_name};
use crate::limits::CHANNEL_BYTES_MAX;

/// The reason why a text is not a channel or pattern. The texts are sent to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The text is longer than [`CHANNEL_BYTES_MAX`].
    #[error("a channel has at most {CHANNEL_BYTES_MAX} bytes")]
    TooLong,
    /// The gateway does not know this family. The second field lists the families that it knows.
    #[error("there is no channel family {0:?}; this gateway knows {1}")]
    UnknownFamily(String, String),
    /// The family has ids, and the text gives none.
    #[error("a {0} channel needs an id: {0}:ID or {0}:ID:TOPIC")]
    MissingId(String),
    /// A segment breaks the grammar of names.
    #[error("{0}")]
    Name(#[from] BadName),
    /// A `*` is not the last segment, is part of a segment, or comes before the end of the scope.
    #[error("a wildcard is a single * as the last segment, after the scope ({0}:*)")]
    Wildcard(String),
    /// A pattern was given where a message is published.
    #[error("a message is published to one channel, without a wildcard")]
    PatternNotChannel,
}

/// What the grammar knows of a family: its name, and whether an id follows the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyShape {
    /// First segment of the family's channels.
    pub name: String,
    /// True for `collection:{id}:…`, false for `system:…`.
    pub keyed: bool,
}

/// The index of a family in [`Families`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyIndex(pub u8);

/// The families that a gateway knows. They define its channel grammar.
///
/// ```
/// use wire::{Families, TenantId, Filter};
/// let families = Families::default();
/// let acme = TenantId::parse("acme").unwrap();
/// let pattern = families.parse(&acme, "collection:42:ops:*").unwrap();
/// assert_eq!(pattern.scope.as_str(), "acme/collection:42");
/// assert_eq!(pattern.filter, Filter::Below("ops".into()));
/// assert!(pattern.filter.matches("ops:cursor"));
/// assert!(!pattern.filter.matches("ops"));
/// // A pattern never covers several scopes:
/// assert!(families.parse(&acme, "collection:*").is_err());
/// assert!(families.parse(&acme, "room:1").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Families(Vec<FamilyShape>);

impl Default for Families {
    /// The three families that are always there: `user:{id}`, `collection:{id}`, `system`.
    fn default() -> Self {
        let shape = |name: &str, keyed| FamilyShape { name: name.into(), keyed };
        Self(vec![shape("user", true), shape("collection", true), shape("system", false)])
    }
}

impl Families {
    /// Creates the table of families.
    ///
    /// # Panics
    /// Panics with more than 64 families, with a name that occurs twice, and with a name outside the grammar. The
    /// configuration is checked before this call.
    #[must_use]
    pub fn new(shapes: Vec<FamilyShape>) -> Self {
        assert!(shapes.len() <= 64, "at most 64 channel families");
        for (index, shape) in shapes.iter().enumerate() {
            assert!(check_name(&shape.name).is_ok(), "family {:?} is not a name", shape.name);
            assert!(shapes[..index].iter().all(|s| s.name != shape.name), "family {:?} twice", shape.name);
        }
        Self(shapes)
    }

    /// All families, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (FamilyIndex, &FamilyShape)> {
        (0u8..).map(FamilyIndex).zip(&self.0)
    }

    /// The shape of this family.
    #[must_use]
    pub fn shape(&self, family: FamilyIndex) -> &FamilyShape {
        &self.0[family.0 as usize]
    }

    /// The index of the family with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FamilyIndex> {
        self.iter().find(|(_, shape)| shape.name == name).map(|(index, _)| index)
    }

    /// Reads what a client may subscribe to: a channel, or a pattern that ends in `*`.
    ///
    /// # Errors
    /// Returns the rule of the grammar that the text breaks.
    pub fn parse(&self, tenant: &TenantId, text: &str) -> Result<Pattern, ChannelError> {
        if text.len() > CHANNEL_BYTES_MAX {
            return Err(ChannelError::TooLong);
        }
        let (family_name, rest) = split_segment(text);
        let Some(family) = self.find(family_name) else {
            check_name(family_name)?;
            let known = self.0.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(ChannelError::UnknownFamily(family_name.into(), known));
        };
        let (scope_len, topic) = match (self.shape(family).keyed, rest) {
            (false, topic) => (family_name.len(), topic),
            (true, None) => return Err(ChannelError::MissingId(family_name.into())),
            (true, Some(rest)) => {
                let (id, topic) = split_segment(rest);
                if id == "*" {
                    return Err(ChannelError::Wildcard(format!("{family_name}:ID")));
                }
                check_name(id)?;
                (family_name.len() + 1 + id.len(), topic)
            }
        };
        let scope_text = &text[..scope_len];
        let filter = match topic {
            None => Filter::Exact(Box::from("")),
            Some(topic) => parse_filter(topic, scope_text)?,
        };
        Ok(Pattern { scope: Scope::new(tenant, family, scope_text), filter })
    }

    /// Reads what a client may publish to: one channel.
    ///
    /// # Errors
    /// Returns the rule of the grammar that the text breaks.
    ///
    /// ```
    /// # use wire::{Families, TenantId};
    /// let (families, tenant) = (Families::default(), TenantId::default());
    /// assert_eq!(families.parse_channel(&tenant, "system:news").unwrap().topic(), "news");
    /// assert!(families.parse_channel(&tenant, "system:*").is_err());
    /// ```
    pub fn parse_channel(&self, tenant: &TenantId, text: &str) -> Result<Channel, ChannelError> {
        let pattern = self.parse(tenant, text)?;
        match pattern.filter {
            Filter::Exact(topic) => Ok(Channel { scope: pattern.scope, topic }),
            Filter::Below(_) => Err(ChannelError::PatternNotChannel),
        }
    }

    /// Reads a scope from its text `tenant/family:id`, as Redis names contain it.
    ///
    /// ```
    /// # use wire::Families;
    /// let families = Families::default();
    /// assert_eq!(families.parse_scope("acme/user:7").unwrap().tenant(), "acme");
    /// assert!(families.parse_scope("acme/user:7:topic").is_none());
    /// ```
    #[must_use]
    pub fn parse_scope(&self, text: &str) -> Option<Scope> {
        let (tenant, scope) = text.split_once('/')?;
        let tenant = TenantId::parse(tenant).ok()?;
        let pattern = self.parse(&tenant, scope).ok()?;
        (pattern.filter == Filter::Exact(Box::from(""))).then_some(pattern.scope)
    }
}

fn split_segment(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((head, rest)) => (head, Some(rest)),
        None => (text, None),
    }
}

fn parse_filter(topic: &str, scope_text: &str) -> Result<Filter, ChannelError> {
    let (head, below) = match topic.strip_suffix('*') {
        None => (topic, false),
        Some("") => return Ok(Filter::Below(Box::from(""))),
        Some(head) => match head.strip_suffix(':') {
            Some(head) => (head, true),
            None => return Err(ChannelError::Wildcard(scope_text.into())),
        },
    };
    for segment in head.split(':') {
        if segment.contains('*') {
            return Err(ChannelError::Wildcard(scope_text.into()));
        }
        check_name(segment)?;
    }
    let head = Box::from(head);
    Ok(if below { Filter::Below(head) } else { Filter::Exact(head) })
}

/// The unit of ordering: the id of a family within a tenant. A scope has one Redis pub/sub channel, one stream, one
/// sequence and one hash tag. Its text is `tenant/family:id`.
#[derive(Clone)]
pub struct Scope {
    text: Arc<str>,
    family: FamilyIndex,
    /// Length of the tenant in bytes: `text` up to the slash.
    tenant_len: u8,
}

impl Scope {
    fn new(tenant: &TenantId, family: FamilyIndex, scope_text: &str) -> Self {
        let tenant = tenant.as_str();
        let text = Arc::from(format!("{tenant}/{scope_text}"));
        let tenant_len = u8::try_from(tenant.len()).expect("a tenant is a name, and those are short");
        Self { text, family, tenant_len }
    }

    /// `tenant/family:id`: the text between the braces of every Redis name of this scope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.text[..self.tenant_len as usize]
    }

    /// `family:id`, as clients write it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[self.tenant_len as usize + 1..]
    }

    /// The family whose policies apply to this scope.
    #[must_use]
    pub fn family(&self) -> FamilyIndex {
        self.family
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Scope {}

impl Hash for Scope {
    /// Hashes the text alone, so that a table with scopes as keys accepts the name that Redis sends (`Borrow<str>`).
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl std::borrow::Borrow<str> for Scope {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The target of a publish: a scope, and a topic within it. The topic may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The scope that orders and keeps the message.
    pub scope: Scope,
    topic: Box<str>,
}

impl Channel {
    /// The part of the channel after its scope; empty if there is none.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_channel(f, self.scope.name(), &self.topic)
    }
}

/// The target of a subscription: a scope, and a filter on its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The scope that orders the messages.
    pub scope: Scope,
    /// The topics that the subscription receives.
    pub filter: Filter,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.filter {
            Filter::Exact(topic) => write_channel(f, self.scope.name(), topic),
            Filter::Below(head) => {
                write_channel(f, self.scope.name(), head)?;
                f.write_str(":*")
            }
        }
    }
}

fn write_channel(f: &mut fmt::Formatter<'_>, scope: &str, topic: &str) -> fmt::Result {
    f.write_str(scope)?;
    if topic.is_empty() { Ok(()) } else { write!(f, ":{topic}") }
}

/// The topics of a scope that a subscription receives. Replay and live delivery apply the same filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// This topic alone. The empty topic is the channel of the scope itself.
    Exact(Box<str>),
    /// Every topic with one or more segments after this prefix. An empty prefix matches every topic that is not empty.
    Below(Box<str>),
}

impl Filter {
    /// Whether the subscription receives messages of `topic`.
    ///
    /// ```
    /// # use wire::Filter;
    /// assert!(Filter::Below("".into()).matches("ops:cursor"));
    /// assert!(!Filter::Below("".into()).matches(""));
    /// assert!(!Filter::Below("ops".into()).matches("opsx:cursor"));
    /// ```
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(wanted) => &**wanted == topic,
            Self::Below(head) if head.is_empty() => !topic.is_empty(),
            Self::Below(head) => topic.strip_prefix(&**head).is_some_and(|rest| rest.starts_with(':')),
        }
    }
}
