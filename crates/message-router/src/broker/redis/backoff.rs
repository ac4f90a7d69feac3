//! Waits before attempts to connect to Redis: longer each time, and random, so that no two instances wait equally
//! long.

/// Doubles the wait from `min_ms` to `max_ms` and draws it from the upper half, so that a fleet does not come back all
/// at once.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    attempt: u32,
}

impl Backoff {
    pub(super) fn new(min_ms: u64, max_ms: u64) -> Self {
        assert!(0 < min_ms, "a wait of nothing is a busy loop");
        assert!(min_ms <= max_ms, "the longest wait is below the shortest");
        Self { min_ms, max_ms, attempt: 0 }
    }

    /// The next wait in ms; `random` is any number, drawn anew for each call.
    pub(super) fn next_ms(&mut self, random: u64) -> u64 {
        // 2^63 times a millisecond is longer than any maximum, and the shift must not wrap.
        let factor = 1u64 << self.attempt.min(62);
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = self.min_ms.saturating_mul(factor).min(self.max_ms);
        let floor = ceiling / 2;
        floor + random % (ceiling - floor + 1)
    }

    pub(super) fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(100, 5_000);
        let longest: Vec<u64> = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].into();
        for ceiling in longest {
            // The last of `half + 1` possible waits is the maximum itself.
            let half = ceiling - ceiling / 2;
            assert_eq!(backoff.clone().next_ms(0), ceiling / 2);
            assert_eq!(backoff.next_ms(half), ceiling);
        }
        for _ in 0..1_000 {
            assert!((2_500..=5_000).contains(&backoff.next_ms(u64::MAX)), "it never gives up and never overflows");
        }
        backoff.reset();
        assert_eq!(backoff.next_ms(50), 100);
    }
}
