//! Why the store did not do what was asked: what happened, whose fault it is, whether to try again.

use std::time::Duration;

use redis_topology::CallError;

/// A call to the store that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The fence held: the token is not, or no longer, the lease.
    #[error("refused by the fence: {0}")]
    Refused(Refusal),
    /// No connection. Nothing was done.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// No answer in time, or the connection broke. Nobody knows whether it was done.
    #[error("Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis answered with an error. Nothing was done.
    #[error("Redis refused: {0}")]
    Rejected(String),
    /// An answer of another shape than `keyspace` documents: somebody loaded a different library.
    #[error("Redis answered something else than agreed: {0}")]
    Malformed(String),
}

/// Why the fence holds a token back. Only the store decides this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store knows no lease of this instance any more: it ran out, or Redis forgot it.
    #[error("the lease ran out")]
    Expired,
    /// Another incarnation, or a newer lease of this one, holds it.
    #[error("another incarnation holds the lease")]
    Taken,
    /// The token was given by another Redis, before a failover or a restart.
    #[error("the token is from before Redis failed over or restarted")]
    Generation,
}

/// Who has to do something about it. A metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This instance: it acts on a lease it lost, or speaks another version.
    Us,
    /// Redis, or the way there.
    Redis,
}

impl StoreError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(_) | Self::Malformed(_) => Fault::Us,
            Self::Unreachable(_) | Self::NoAnswer(_) | Self::Rejected(_) => Fault::Redis,
        }
    }

    /// Whether the same call with the same token can succeed later. All calls may be repeated without harm.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.fault() == Fault::Redis
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(why) => Self::Unreachable(why),
            CallError::NoAnswer(within) => Self::NoAnswer(within),
            CallError::Rejected(why) => Self::Rejected(why),
            CallError::Malformed(why) => Self::Malformed(why),
        }
    }
}
