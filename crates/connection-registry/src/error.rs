//! Why a call to the store failed: what happened, whose fault it is, and whether to try again.

use std::time::Duration;

use redis_topology::{CallError, ErrorReply};

/// A call to the store that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The token is not that of the current lease. Nothing was done.
    #[error("lease token refused: {0}")]
    Refused(Refusal),
    /// No connection. Nothing was done.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// No answer in time, or the connection broke. It is unknown whether the call was carried out.
    #[error("Redis did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Redis answered with an error. Nothing was done, unless a function failed half-way.
    #[error("Redis refused: {0}")]
    Rejected(String),
    /// The answer does not have the shape that `keyspace` documents: Redis has a different function library.
    #[error("Redis gave an unexpected answer: {0}")]
    Malformed(String),
}

/// Why the store refused a token. Only the store decides this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store has no lease of this instance any more: it has expired, or Redis has lost it.
    #[error("the lease has expired")]
    Expired,
    /// Another incarnation holds the lease, or this incarnation has a newer one.
    #[error("another incarnation holds the lease")]
    Taken,
    /// The token was issued by another Redis process, before a failover or a restart.
    #[error("the token was issued before Redis failed over or restarted")]
    Generation,
}

/// Whose fault a failure is. A metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This instance: it has lost its lease, or its version does not match.
    Us,
    /// Redis, or the network to it.
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

    /// Whether the call may have been carried out, in whole or in part: there was no answer, or not the documented one, or a
    /// function failed half-way.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::NoAnswer(_) | Self::Malformed(_) => true,
            Self::Rejected(text) => ErrorReply(text).is_half_way(),
            Self::Refused(_) | Self::Unreachable(_) => false,
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
