//! Why the store did not do what was asked.

use std::time::Duration;

use redis_topology::CallError;

/// A call to the store that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No connection. Nothing was done.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// No answer in time, or the connection broke. Nobody knows whether it was done.
    #[error("Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis answered with an error: it is full, read-only, or busy. Nothing was done.
    #[error("Redis refused: {0}")]
    Rejected(String),
    /// An answer of another shape than `keyspace` documents: somebody loaded a different library.
    #[error("Redis answered something else than agreed: {0}")]
    Malformed(String),
}

impl StoreError {
    /// Whether the same call can succeed later. All calls may be repeated without harm.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoAnswer(_) => true,
            // ERR is about the call itself, WRONGTYPE about a key of somebody else's; OOM, MISCONF, READONLY and their like pass.
            Self::Rejected(text) => {
                let is_lasting = text.starts_with("ERR ") || text.contains("WRONGTYPE");
                !is_lasting || text.contains("Function not found")
            }
            Self::Malformed(_) => false,
        }
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
