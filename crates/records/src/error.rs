//! The errors of the store.

use std::time::Duration;

use redis_topology::CallError;

/// A call to the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection. Nothing was done.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// There was no answer in time, or the connection broke. The call may or may not have been carried out.
    #[error("Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis answered with an error, for instance because it is full, read-only or busy. Nothing was done.
    #[error("Redis refused: {0}")]
    Rejected(String),
    /// The answer does not have the form that `keyspace` documents: a different function library was loaded.
    #[error("Redis gave an unexpected answer: {0}")]
    Malformed(String),
}

impl StoreError {
    /// Whether the same call may succeed later. All calls may be repeated without harm.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoAnswer(_) => true,
            // ERR is about the call itself, and WRONGTYPE about a key that another program uses. OOM, MISCONF, READONLY
            // and similar errors pass.
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
