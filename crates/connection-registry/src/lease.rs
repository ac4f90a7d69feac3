//! PURE. Our own lease: what we may believe about it, from answers and times handed in.
//!
//! ```text
//!             granted                      deadline passes, unrenewed
//!   Lost ─────────────────▶ Held ───────────────────────────────────▶ Lost   (isolated)
//!     ▲                      │ seen only after the end in the store, or taken by another
//!     └── a new incarnation ─┴──────────────────────────────────────▶ Fenced (woke up too late)
//! ```
//!
//! The times are of a monotonic clock. A lease is counted from the moment *before* its renewal was sent: the answer's
//! way back, or a pause of this process meanwhile, can only make us give up early. Linux stops that clock while
//! the whole machine is suspended; the fence in Redis covers what this file cannot see.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::instance::Incarnation;

/// The fence token of one lease, exactly as it stands in the store. Only the store compares it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// As the store gave it.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What this instance may believe about its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// Ours until the deadline; without one, as long as the process lives.
    Held {
        /// Goes with every change of ownership rows.
        token: Token,
        /// From here on we act as if it were lost, although the store would still accept the token for a moment.
        deadline: Option<Instant>,
        /// When it ends in the store, at the latest. Whoever looks first after that was asleep: nobody told its
        /// clients, and others may have taken its place.
        end: Option<Instant>,
    },
    /// Not ours now. The instance is isolated, and asks again at every heartbeat.
    Lost(Loss),
    /// Others may have acted in our place meanwhile. This incarnation is over.
    Fenced,
}

impl LeaseState {
    /// Whether the lease may be acted on at `now`. Also right when the heartbeat task itself had no chance to run.
    #[must_use]
    pub fn is_held(&self, now: Instant) -> bool {
        match self {
            Self::Held { deadline, .. } => deadline.is_none_or(|deadline| now < deadline),
            Self::Lost(_) | Self::Fenced => false,
        }
    }
}

/// Why the lease is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It was never granted yet.
    Starting,
    /// It could not be renewed in time.
    Unrenewed,
    /// The store answers, but knows this lease no more.
    Forgotten,
    /// Another incarnation of this instance id holds it: the one before us, until it ends, or a process with our name.
    Busy(Incarnation),
    /// We gave it back: the instance stops.
    Released,
}

/// What the next heartbeat should ask of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseRequest {
    /// For a lease.
    Acquire,
    /// For more time on this one.
    Renew(Token),
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Lease {
    state: LeaseState,
    /// The last token granted to this incarnation. Kept while the lease is lost: if the store still knows it then,
    /// nobody came between, and nothing need be written again.
    token: Option<Token>,
    /// How long a lease lasts in the store; `None`: as long as the process, because the store is part of it.
    length: Option<Duration>,
    /// How much of it we do not count on.
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

    /// When [`tick`](Self::tick) has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            LeaseState::Held { deadline, .. } => deadline,
            LeaseState::Lost(_) | LeaseState::Fenced => None,
        }
    }

    /// The token, if the lease may be acted on at `now`.
    pub(crate) fn held(&self, now: Instant) -> Option<Token> {
        match &self.state {
            LeaseState::Held { token, .. } if self.state.is_held(now) => Some(token.clone()),
            LeaseState::Held { .. } | LeaseState::Lost(_) | LeaseState::Fenced => None,
        }
    }

    pub(crate) fn ask(&self) -> LeaseRequest {
        match &self.token {
            Some(token) => LeaseRequest::Renew(token.clone()),
            None => LeaseRequest::Acquire,
        }
    }

    /// Time has come to `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        let LeaseState::Held { deadline: Some(deadline), end, .. } = self.state else { return };
        if now < deadline {
            return;
        }
        // A running process sees the deadline while the store still keeps the lease for it.
        let ended = end.is_some_and(|end| now >= end);
        self.state = if ended { LeaseState::Fenced } else { LeaseState::Lost(Loss::Unrenewed) };
    }

    /// The store granted a lease; asked at `sent`, heard at `now`.
    pub(crate) fn granted(&mut self, token: Token, sent: Instant, now: Instant) {
        debug_assert!(self.token.is_none(), "only an instance without a token asks for a lease");
        if self.state != LeaseState::Fenced {
            self.token = Some(token.clone());
            self.hold(token, sent, now);
        }
    }

    /// The store gave the lease more time; asked at `sent`, heard at `now`.
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

    /// The store refused our token.
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

    /// The store refused a lease: another incarnation holds it.
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

    /// We gave the lease back.
    pub(crate) fn released(&mut self) {
        self.token = None;
        self.state = LeaseState::Lost(Loss::Released);
    }
}

#[cfg(test)]
mod tests;
