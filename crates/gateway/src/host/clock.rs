//! The clock of the I/O code. It passes its readings to the pure code.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic time in milliseconds since the process began, for intervals.
    pub(crate) mono_ms: u64,
    /// Wall-clock time in milliseconds since 1970, for tokens and for the latency of messages.
    pub(crate) unix_ms: u64,
}

impl Now {
    /// Wall-clock time in seconds since 1970, as in tokens.
    pub(crate) fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }
}

/// Reads the monotonic clock and the wall clock together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The clocks of the machine.
    Machine { start: Instant },
    /// The clock of a simulation.
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
        Now { mono_ms, unix_ms: unix_ms() }
    }
}

/// Reads the wall clock. Before 1970 it reads 0: every token is valid and every latency is long, but the gateway runs.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// The wall clock in seconds since 1970, as in tokens.
pub(crate) fn unix_s() -> u64 {
    unix_ms() / 1_000
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
