//! The state of a lease, as the rest of the gateway sees it.

use std::time::Instant;

use super::token::Token;
use crate::instance::Incarnation;

/// What this instance may assume about its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// The instance holds the lease until the deadline. Without a deadline it holds the lease as long as the process
    /// runs.
    Held {
        /// Sent with every change of the instance's rows.
        token: Token,
        /// From this moment the instance acts as if the lease were lost. The store accepts the token for a little
        /// longer.
        deadline: Option<Instant>,
        /// Latest end of the lease in the store. A process that looks at the clock only after this moment was frozen:
        /// its clients are still connected, and other instances may have taken its place.
        end: Option<Instant>,
    },
    /// The instance does not hold the lease. It is isolated, and asks again at every heartbeat.
    Lost(Loss),
    /// Other instances may have taken this one's place. This incarnation has ended.
    Fenced,
}

impl LeaseState {
    /// Whether the instance may act on the lease at `now`. Correct even if the heartbeat task could not run meanwhile.
    #[must_use]
    pub fn is_held(&self, now: Instant) -> bool {
        match self {
            Self::Held { deadline, .. } => deadline.is_none_or(|deadline| now < deadline),
            Self::Lost(_) | Self::Fenced => false,
        }
    }
}

/// Why the instance does not hold the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The store has not granted a lease yet.
    Starting,
    /// The lease could not be renewed in time.
    Unrenewed,
    /// The store answers, but does not know this lease any more.
    Forgotten,
    /// Another incarnation of this instance id holds the lease: the previous one, until its lease ends, or a second
    /// process with the same id.
    Busy(Incarnation),
    /// The instance stops and has released the lease.
    Released,
}
