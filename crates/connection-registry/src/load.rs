//! The load that an instance reports to its peers with every heartbeat.

/// Connections of an instance, and how many more it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Number of open connections.
    pub connections: u64,
    /// Most connections that the instance accepts per second. 0 means no limit.
    pub connects_per_second: u32,
    /// Whether the instance serves new clients.
    pub duty: Duty,
}

/// Whether an instance serves new clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The instance is healthy and serves them.
    Full,
    /// The instance has no broker or no lease, or has not started yet. Other instances serve new clients better.
    Reduced,
    /// The instance moves its own clients to other instances.
    Draining,
}

/// One heartbeat, as it is shown to the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Grows by one with each heartbeat of one incarnation.
    pub number: u64,
    /// Load at the time of the heartbeat.
    pub load: Load,
}

impl Duty {
    /// Spelling in the store.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reduced => "reduced",
            Self::Draining => "draining",
        }
    }

    /// Reads the spelling in the store. An unknown word of a later version counts as [`Self::Reduced`].
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "full" => Self::Full,
            "draining" => Self::Draining,
            _ => Self::Reduced,
        }
    }
}
