//! PURE. How many clients are to have been moved at which moment of a drain.
//!
//! All of them at once would be a storm for the other instances; so they are closed in slots, evenly over the window, and
//! those who are left are served as before. Few clients need no window: they go as fast as the others take them easily.

use std::time::Duration;

/// From one slot to the next.
pub(crate) const SLOT: Duration = Duration::from_millis(20);

/// A rate that no instance minds, however many leave: a fraction of the connects that each takes in.
const LEAST_PER_SECOND: u64 = 500;

/// One drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    clients: u64,
    window: Duration,
}

impl Pace {
    pub(crate) fn new(clients: u64, window: Duration) -> Self {
        let least = Duration::from_millis(clients * 1_000 / LEAST_PER_SECOND);
        Self { clients, window: window.min(least) }
    }

    /// How many are to have been moved so long after the beginning.
    pub(crate) fn moved(&self, elapsed: Duration) -> u64 {
        if elapsed >= self.window {
            return self.clients;
        }
        let part = u128::from(self.clients) * elapsed.as_micros() / self.window.as_micros();
        u64::try_from(part).unwrap_or(self.clients)
    }

    /// Whether all have been moved.
    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed >= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(pace: Pace) -> Vec<u64> {
        let moved: Vec<u64> =
            (0..).map(|n| SLOT * n).map_while(|at| (!pace.is_over(at)).then(|| pace.moved(at))).collect();
        moved.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn many_leave_evenly_over_the_window() {
        let pace = Pace::new(10_000, Duration::from_secs(10));
        assert_eq!(pace.moved(Duration::ZERO), 0);
        assert_eq!(pace.moved(Duration::from_secs(5)), 5_000);
        assert_eq!(pace.moved(Duration::from_secs(10)), 10_000);
        let slots = slots(pace);
        assert_eq!(slots.len(), 499);
        assert!(slots.iter().all(|n| *n == 20), "{slots:?}");
    }

    #[test]
    fn few_leave_at_an_easy_rate() {
        let pace = Pace::new(100, Duration::from_secs(10));
        assert!(pace.is_over(Duration::from_millis(200)) && !pace.is_over(Duration::from_millis(199)));
        assert!(slots(pace).iter().all(|n| *n == 10));
    }

    #[test]
    fn nobody_is_over_at_once() {
        let pace = Pace::new(0, Duration::from_secs(10));
        assert!(pace.is_over(Duration::ZERO));
        assert_eq!(pace.moved(Duration::ZERO), 0);
    }
}
