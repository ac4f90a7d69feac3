//! The shells' clock. The pure parts are handed what it reads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::rules::Now;

/// Reads both clocks at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        #[cfg(test)]
        if let Some(now) = crate::simulation::virtual_now() {
            return now;
        }
        let mono_ms = millis(self.start.elapsed());
        // A clock before 1970 makes every token valid and every latency long; it does not stop the gateway.
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        Now { mono_ms, unix_ms }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
