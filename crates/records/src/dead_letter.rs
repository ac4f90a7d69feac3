//! A message that could not be delivered or stored, and what is known of it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use wire::{InstanceId, Position, Scope, TenantId, Timestamp, UserId};

/// Why a message became a dead letter. Stable: operators select by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is stored, but is no message that a gateway can deliver.
    Poison,
    /// It was taken while the instance was cut off from Redis, and reached only members of that instance.
    Isolated,
}

impl Reason {
    /// Every reason, for documents and help.
    pub const ALL: [Self; 2] = [Self::Poison, Self::Isolated];

    /// As it is stored and typed.
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
    /// Tells it from all other dead letters of its tenant, and is the same wherever the same message is found again.
    pub dedup_key: Box<str>,
    /// Why.
    pub reason: Reason,
    /// Which instance found it.
    pub instance: InstanceId,
    /// Where the message was going.
    pub scope: Scope,
    /// The rest of its channel; may be empty.
    pub topic: Box<str>,
    /// Who published it, if that is known.
    pub user: Option<UserId>,
    /// Where it stands in its scope, if it was stored.
    pub position: Option<Position>,
    /// When it was stored or taken.
    pub time: Timestamp,
    /// A sentence about what is wrong.
    pub detail: String,
    /// The message's length in bytes.
    pub size: usize,
    /// The message itself, if it is kept.
    pub body: Body,
}

/// What is kept of the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// All of it, as it was stored.
    Message(Bytes),
    /// Nothing: its family says so.
    Redacted,
    /// Nothing: it is longer than dead letters may be.
    TooBig,
}

/// A dead letter as the store gives it back. Texts, because an older or newer gateway may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Under which it is shown, replayed and dropped.
    pub id: DeadLetterId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Why, as [`Reason::as_str`].
    pub reason: String,
    /// Which instance found it.
    pub instance: String,
    /// Where the message was going, as clients name it.
    pub channel: String,
    /// Who published it, if that is known.
    pub user: Option<String>,
    /// Where it stands in its scope, if it was stored.
    pub position: Option<String>,
    /// When it was stored or taken.
    pub time: Timestamp,
    /// A sentence about what is wrong.
    pub detail: String,
    /// The message's length in bytes.
    pub size: usize,
    /// The message itself, if it is kept.
    pub body: Body,
}

/// A dead letter's place among its tenant's: when it was kept (ms), and a number within that millisecond.
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
    /// When it was kept, by the store's clock.
    pub time: Timestamp,
    /// Which of that millisecond.
    pub number: u64,
}

/// A text that is not a dead letter's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id is two numbers with a dash, as `tidegate dlq list` prints it")]
pub struct BadDeadLetterId;

// === impl DeadLetter ===

impl DeadLetter {
    /// What it takes in a queue.
    pub(crate) fn bytes(&self) -> usize {
        let Self { dedup_key, topic, detail, body, .. } = self;
        let body = if let Body::Message(message) = body { message.len() } else { 0 };
        size_of::<Self>() + dedup_key.len() + topic.len() + detail.len() + body
    }

    /// Whose it is.
    ///
    /// # Panics
    /// Never: a scope's tenant has been checked.
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::parse(self.scope.tenant()).expect("a scope's tenant is a name")
    }

    /// The channel as clients name it.
    pub(crate) fn channel(&self) -> String {
        let Self { scope, topic, .. } = self;
        if topic.is_empty() { scope.name().to_owned() } else { format!("{}:{topic}", scope.name()) }
    }

    /// As it comes back.
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
        // The same shape as a position, for both are ids of stream entries; only the meaning differs.
        let entry: Position = text.parse().map_err(|_| BadDeadLetterId)?;
        Ok(Self { time: Timestamp(entry.generation), number: entry.offset })
    }
}
