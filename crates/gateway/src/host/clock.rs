//! The shells' clock. The pure parts are handed what it reads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time as the pure parts get it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Milliseconds since the process began: for intervals.
    pub(crate) mono_ms: u64,
    /// The wall clock: for tokens and for the latency of messages.
    pub(crate) unix_ms: u64,
}

impl Now {
    /// The wall clock in seconds, as tokens have it.
    pub(crate) fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }
}

/// Reads both clocks at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The machine's clocks.
    Machine { start: Instant },
    /// The time of a simulation.
    #[cfg(test)]
    Simulated(fn() -> Now),
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self::Machine { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        let start = match self {
            Self::Machine { start } => start,
            #[cfg(test)]
            Self::Simulated(now) => return now(),
        };
        let mono_ms = millis(start.elapsed());
        // A clock before 1970 makes every token valid and every latency long; it does not stop the gateway.
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        Now { mono_ms, unix_ms }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
