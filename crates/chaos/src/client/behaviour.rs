//! The behaviour of a client: what it keeps, where it connects, when it leaves, and how fast it reads.

use std::time::Duration;

/// How long a client stays before it leaves, and how long a slow client stays, so that it has time to fall behind.
const STAY: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(4));
const SLOW_STAY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(10));

/// What a client keeps for its next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// A position for each subscription, and the session id.
    Positions,
    /// Only the session id. The gateway must restore the subscriptions (`restore`).
    Session,
    /// Nothing. Each connection begins anew.
    Nothing,
}

/// The behaviour of a client on its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) keeps: Keeps,
    /// The client leaves and returns. Otherwise it stays until it is disconnected.
    pub(crate) leaves: bool,
    /// The client connects only to this instance.
    pub(crate) home: Option<usize>,
    /// The client reads more slowly than it is sent messages, until the run is calm.
    pub(crate) reads_slowly: bool,
}

impl Behaviour {
    pub(crate) const STAYS: Self = Self { keeps: Keeps::Positions, leaves: false, home: None, reads_slowly: false };
    pub(crate) const ROAMS: Self = Self { leaves: true, ..Self::STAYS };
    pub(crate) const FORGETS: Self = Self { keeps: Keeps::Nothing, ..Self::ROAMS };
    pub(crate) const RESTORES: Self = Self { keeps: Keeps::Session, ..Self::STAYS };
    pub(crate) const ROAMS_AND_RESTORES: Self = Self { keeps: Keeps::Session, ..Self::ROAMS };

    /// A client that connects only to this instance.
    pub(crate) const fn at(self, home: usize) -> Self {
        Self { home: Some(home), ..self }
    }

    /// The range of times that the client stays before it leaves.
    pub(crate) const fn stay(self) -> (Duration, Duration) {
        if self.reads_slowly { SLOW_STAY } else { STAY }
    }

    /// A client that reads more slowly than it is sent messages.
    pub(crate) const fn slowly(self) -> Self {
        Self { reads_slowly: true, ..self }
    }
}
