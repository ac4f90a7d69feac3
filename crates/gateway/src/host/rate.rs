//! A message rate limit in eight bytes: the generic cell rate algorithm (ITU-T I.371), a token bucket without a
//! timer.

/// Frames that a client may send: `per_second` in the long run, `burst` at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimit {
    /// Cost of one frame, in microseconds.
    pub(crate) cost_us: u64,
    /// Largest time by which the frames of a burst may be early, in microseconds.
    pub(crate) burst_us: u64,
}

impl RateLimit {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let cost_us = 1_000_000 / u64::from(per_second.max(1));
        Self { cost_us, burst_us: cost_us * u64::from(burst.max(1)) }
    }
}

/// The rate of one client.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// Time at which the frames accepted so far are due at the long-run rate, in microseconds.
    due_us: u64,
}

impl Rate {
    /// Whether everything accepted so far is due, so that a new rate would be the same.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.due_us <= now_ms * 1_000
    }

    /// Accepts one frame, or returns the milliseconds after which it would be accepted.
    pub(crate) fn take(&mut self, limit: RateLimit, now_ms: u64) -> Result<(), u64> {
        let now_us = now_ms * 1_000;
        let due_us = self.due_us.max(now_us) + limit.cost_us;
        match (due_us - now_us).checked_sub(limit.burst_us) {
            None | Some(0) => {
                self.due_us = due_us;
                Ok(())
            }
            Some(early_us) => Err(early_us.div_ceil(1_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_long_run_rate_holds() {
        let limit = RateLimit::new(100, 5);
        let mut rate = Rate::default();
        let now_ms = 50_000;
        assert!((0..5).all(|_| rate.take(limit, now_ms).is_ok()));
        assert_eq!(rate.take(limit, now_ms), Err(10));
        assert_eq!(rate.take(limit, now_ms + 10), Ok(()));
        assert!(rate.take(limit, now_ms + 10).is_err());
        let taken = (0..1_000).filter(|ms| rate.take(limit, now_ms + 1_000 + ms).is_ok()).count();
        assert!((100..=105).contains(&taken), "{taken}");
    }
}
