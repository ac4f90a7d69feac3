//! A dead letter: a message that could not be delivered or stored, and what is known of it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use wire::{InstanceId, Position, Scope, TenantId, Timestamp, UserId};

/// The reason why a message became a dead letter. It is stable: operators select by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The message is stored, but a gateway cannot deliver it because it breaks the format of messages.
    Poison,
    /// The message was accepted while the instance was cut off from Redis, and reached only members on that instance.
    Isolated,
}

impl Reason {
    /// Every reason, for documents and help.
    pub const ALL: [Self; 2] = [Self::Poison, Self::Isolated];

    /// The reason as it is stored, and as operators type it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A dead letter on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Identifies the message among the dead letters of its tenant. It is the same wherever the same message is found
    /// again.
    pub dedup_key: Box<str>,
    /// The reason why it is a dead letter.
    pub reason: Reason,
    /// The instance that found it.
    pub instance: InstanceId,
    /// The scope of the message's channel.
    pub scope: Scope,
    /// The topic of the message's channel; may be empty.
    pub topic: Box<str>,
    /// The publisher, if it is known.
    pub user: Option<UserId>,
    /// Position of the message in its scope, if it was stored.
    pub position: Option<Position>,
    /// Time when the message was stored or accepted.
    pub time: Timestamp,
    /// A sentence about what is wrong.
    pub detail: String,
    /// Length of the message in bytes.
    pub size: usize,
    /// The message itself, if it is kept.
    pub body: Body,
}

/// What is kept of the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The whole message, as it was stored.
    Message(Bytes),
    /// Nothing, because the policy of the family redacts dead letters.
    Redacted,
    /// Nothing, because the message is longer than the limit for dead letters.
    TooBig,
}

/// A dead letter as the store returns it. Fields are texts, because an older or newer gateway may have written them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The id for showing, replaying and dropping it.
    pub id: DeadLetterId,
    /// The tenant of the message.
    pub tenant: TenantId,
    /// The reason, as written by [`Reason::as_str`].
    pub reason: String,
    /// The instance that found it.
    pub instance: String,
    /// The channel of the message, as clients write it.
    pub channel: String,
    /// The publisher, if it is known.
    pub user: Option<String>,
    /// Position of the message in its scope, if it was stored.
    pub position: Option<String>,
    /// Time when the message was stored or accepted.
    pub time: Timestamp,
    /// A sentence about what is wrong.
    pub detail: String,
    /// Length of the message in bytes.
    pub size: usize,
    /// The message itself, if it is kept.
    pub body: Body,
}

/// The id of a dead letter within its tenant: the time when it was stored (ms), and a number within that millisecond.
///
/// ```
/// use records::DeadLetterId;
/// let id: DeadLetterId = "1795176000000-0".parse().unwrap();
/// assert_eq!(id.to_string(), "1795176000000-0");
/// assert!(id > "1795175999999-7".parse().unwrap());
/// assert!("latest".parse::<DeadLetterId>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId {
    /// Time when it was stored, by the store's clock.
    pub time: Timestamp,
    /// Number within that millisecond, from 0.
    pub number: u64,
}

/// The text is not the id of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id is two numbers with a dash, as `tidegate dlq list` prints it")]
pub struct BadDeadLetterId;

// === impl DeadLetter ===

impl DeadLetter {
    /// Memory that it takes in the queue, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let Self { dedup_key, topic, detail, body, .. } = self;
        let body = if let Body::Message(message) = body { message.len() } else { 0 };
        size_of::<Self>() + dedup_key.len() + topic.len() + detail.len() + body
    }

    /// The tenant of the message.
    ///
    /// # Panics
    /// Never panics: the tenant of a scope has been checked.
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::parse(self.scope.tenant()).expect("a scope's tenant is a name")
    }

    /// The channel as clients write it.
    pub(crate) fn channel(&self) -> String {
        let Self { scope, topic, .. } = self;
        if topic.is_empty() { scope.name().to_owned() } else { format!("{}:{topic}", scope.name()) }
    }

    /// The dead letter as the store returns it under this id.
    pub(crate) fn keep(&self, id: DeadLetterId) -> StoredDeadLetter {
        StoredDeadLetter {
            id,
            tenant: self.tenant(),
            reason: self.reason.as_str().into(),
            instance: self.instance.to_string(),
            channel: self.channel(),
            user: self.user.as_ref().map(ToString::to_string),
            position: self.position.map(|position| position.to_string()),
            time: self.time,
            detail: self.detail.clone(),
            size: self.size,
            body: self.body.clone(),
        }
    }
}

// === impl DeadLetterId ===

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time.0, self.number)
    }
}

impl FromStr for DeadLetterId {
    type Err = BadDeadLetterId;

    fn from_str(text: &str) -> Result<Self, BadDeadLetterId> {
        // The text has the same form as a position, because both are ids of stream entries. Only the meaning differs.
        let entry: Position = text.parse().map_err(|_| BadDeadLetterId)?;
        Ok(Self { time: Timestamp(entry.generation), number: entry.offset })
    }
}
