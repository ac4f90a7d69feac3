//! What an instance tells its peers of how it is doing, with every heartbeat.

/// How much an instance holds, and what it can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sockets held.
    pub connections: u64,
    /// Connections it takes in per second; 0 for any number.
    pub connects_per_second: u32,
    /// What it does with new ones.
    pub duty: Duty,
}

/// What an instance does with clients that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It serves them with all it has.
    Full,
    /// It is without broker or lease, or has not begun: others serve them better.
    Reduced,
    /// It is giving its own away.
    Draining,
}

/// What one heartbeat shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts up by one with each heartbeat of one incarnation.
    pub number: u64,
    /// At that moment.
    pub load: Load,
}

impl Duty {
    /// As it stands in the store.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reduced => "reduced",
            Self::Draining => "draining",
        }
    }

    /// Reads it back. A word of a later version is nothing to rely on.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "full" => Self::Full,
            "draining" => Self::Draining,
            _ => Self::Reduced,
        }
    }
}
