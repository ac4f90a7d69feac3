//! PURE. The state machine of this instance's lease, driven by the store's answers and by times handed in.
//!
//! ```text
//!             granted                      deadline passes, unrenewed
//!   Lost ─────────────────▶ Held ───────────────────────────────────▶ Lost   (isolated)
//!     ▲                      │ noticed only after its end in the store, or taken by another incarnation
//!     └── a new incarnation ─┴──────────────────────────────────────▶ Fenced
//! ```
//!
//! Times are of a monotonic clock. A lease is counted from the moment *before* its renewal was sent. A slow answer, or
//! a pause of this process meanwhile, can therefore only end it too early. Linux stops the monotonic clock while the
//! whole machine is suspended; the fence in Redis covers that case.

mod state;
mod token;

use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::instance::Incarnation;

pub use self::state::{LeaseState, Loss};
pub use self::token::Token;

/// The call that the next heartbeat makes to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseRequest {
    /// Ask for a lease.
    Acquire,
    /// Renew the lease with this token.
    Renew(Token),
}

/// The lease of one instance.
#[derive(Debug)]
pub(crate) struct Lease {
    state: LeaseState,
    /// The newest token of this incarnation. It is kept while the lease is lost: if the store still knows the token
    /// then, no other incarnation held the lease meanwhile, and no rows need to be written again.
    token: Option<Token>,
    /// How long a lease lasts in the store. `None`: as long as the process, because the store is part of the process.
    length: Option<Duration>,
    /// Part of `length` that the instance does not use, because clocks differ.
    drift: Duration,
}

impl Lease {
    pub(crate) fn new(length: Option<Duration>, drift: Duration) -> Self {
        assert!(length.is_none_or(|length| drift < length), "a lease must outlast the drift taken off it");
        Self { state: LeaseState::Lost(Loss::Starting), token: None, length, drift }
    }

    pub(crate) fn state(&self) -> &LeaseState {
        &self.state
    }

    /// When [`tick`](Self::tick) ends the lease.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            LeaseState::Held { deadline, .. } => deadline,
            LeaseState::Lost(_) | LeaseState::Fenced => None,
        }
    }

    /// The token, if the instance may act on the lease at `now`.
    pub(crate) fn held(&self, now: Instant) -> Option<Token> {
        match &self.state {
            LeaseState::Held { token, .. } if self.state.is_held(now) => Some(token.clone()),
            LeaseState::Held { .. } | LeaseState::Lost(_) | LeaseState::Fenced => None,
        }
    }

    /// The call to make at the next heartbeat.
    pub(crate) fn ask(&self) -> LeaseRequest {
        match &self.token {
            Some(token) => LeaseRequest::Renew(token.clone()),
            None => LeaseRequest::Acquire,
        }
    }

    /// Ends the lease if its deadline has passed at `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        let LeaseState::Held { deadline: Some(deadline), end, .. } = self.state else { return };
        if now < deadline {
            return;
        }
        // A process that runs sees the deadline before the lease ends in the store.
        let ended = end.is_some_and(|end| now >= end);
        self.state = if ended { LeaseState::Fenced } else { LeaseState::Lost(Loss::Unrenewed) };
    }

    /// The store granted a lease. The call was sent at `sent` and answered at `now`.
    pub(crate) fn granted(&mut self, token: Token, sent: Instant, now: Instant) {
        debug_assert!(self.token.is_none(), "only an instance without a token asks for a lease");
        if self.state != LeaseState::Fenced {
            self.token = Some(token.clone());
            self.hold(token, sent, now);
        }
    }

    /// The store renewed the lease. The call was sent at `sent` and answered at `now`.
    pub(crate) fn renewed(&mut self, sent: Instant, now: Instant) {
        // The answer may have waited in the socket while this process was frozen.
        self.tick(now);
        if let (Some(token), false) = (self.token.clone(), self.state == LeaseState::Fenced) {
            self.hold(token, sent, now);
        }
    }

    fn hold(&mut self, token: Token, sent: Instant, now: Instant) {
        let end = self.length.map(|length| sent + length);
        self.state = LeaseState::Held { token, deadline: end.map(|end| end - self.drift), end };
        if !self.state.is_held(now) {
            self.state = LeaseState::Lost(Loss::Unrenewed);
        }
    }

    /// The store refused the token.
    pub(crate) fn refused(&mut self, refusal: Refusal, now: Instant) {
        self.tick(now);
        self.token = None;
        if self.state != LeaseState::Fenced {
            self.state = match refusal {
                Refusal::Taken => LeaseState::Fenced,
                Refusal::Expired | Refusal::Generation => LeaseState::Lost(Loss::Forgotten),
            };
        }
    }

    /// The store did not grant a lease, because another incarnation holds it.
    pub(crate) fn busy(&mut self, holder: Incarnation) {
        debug_assert!(self.token.is_none(), "only an instance without a token asks for a lease");
        if self.state != LeaseState::Fenced {
            self.state = LeaseState::Lost(Loss::Busy(holder));
        }
    }

    /// A new incarnation begins.
    pub(crate) fn start_new_incarnation(&mut self) {
        debug_assert_eq!(self.state, LeaseState::Fenced, "only a fenced incarnation is over");
        self.token = None;
        self.state = LeaseState::Lost(Loss::Starting);
    }

    /// The instance has released the lease.
    pub(crate) fn released(&mut self) {
        self.token = None;
        self.state = LeaseState::Lost(Loss::Released);
    }
}

#[cfg(test)]
mod tests;
