//! The errors of the store.

use std::time::Duration;

use redis_topology::{CallError, ErrorReply};

/// A call to the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection. Nothing was done.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// There was no answer in time, or the connection broke. The call may or may not have been carried out.
    #[error("Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis answered with an error, for instance because it is full, read-only or busy. Nothing was done, unless a
    /// function failed half-way.
    #[error("Redis refused: {0}")]
    Rejected(String),
    /// The answer does not have the form that `keyspace` documents: a different function library was loaded.
    #[error("Redis gave an unexpected answer: {0}")]
    Malformed(String),
}

impl StoreError {
    /// Whether the call may have been carried out, in whole or in part: there was no answer, or not the documented one, or a
    /// function failed half-way.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::NoAnswer(_) | Self::Malformed(_) => true,
            Self::Rejected(text) => ErrorReply(text).is_half_way(),
            Self::Unreachable(_) => false,
        }
    }

    /// Whether the same call may succeed later. All calls may be repeated without harm.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoAnswer(_) => true,
            Self::Rejected(text) => !ErrorReply(text).is_lasting(),
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
