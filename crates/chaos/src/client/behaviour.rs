//! How a client treats its connections.

use std::time::Duration;

/// How long a client stays that comes and goes, and one that reads slowly, so that it has time to fall behind.
const STAY: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(4));
const SLOW_STAY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(10));

/// What it has when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// A position for each subscription, and its session.
    Positions,
    /// Nothing but its session's id: the gateway is to bring back what it held (`restore`).
    Session,
    /// Nothing: it begins anew each time.
    Nothing,
}

/// How a client treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) keeps: Keeps,
    /// It comes and goes; otherwise it stays as long as it is let.
    pub(crate) leaves: bool,
    /// It comes to this instance alone.
    pub(crate) home: Option<usize>,
    /// It reads less than it is sent, until everything is calm.
    pub(crate) reads_slowly: bool,
}

impl Behaviour {
    pub(crate) const STAYS: Self = Self { keeps: Keeps::Positions, leaves: false, home: None, reads_slowly: false };
    pub(crate) const ROAMS: Self = Self { leaves: true, ..Self::STAYS };
    pub(crate) const FORGETS: Self = Self { keeps: Keeps::Nothing, ..Self::ROAMS };
    pub(crate) const RESTORES: Self = Self { keeps: Keeps::Session, ..Self::STAYS };
    pub(crate) const ROAMS_AND_RESTORES: Self = Self { keeps: Keeps::Session, ..Self::ROAMS };

    /// At this instance alone.
    pub(crate) const fn at(self, home: usize) -> Self {
        Self { home: Some(home), ..self }
    }

    /// For so long it stays, if it leaves.
    pub(crate) const fn stay(self) -> (Duration, Duration) {
        if self.reads_slowly { SLOW_STAY } else { STAY }
    }

    /// Too slowly for what it is sent.
    pub(crate) const fn slowly(self) -> Self {
        Self { reads_slowly: true, ..self }
    }
}
