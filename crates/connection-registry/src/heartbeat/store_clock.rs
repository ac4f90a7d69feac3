//! The store's clock, as far as the store's replies tell it.

use crate::clock_offset::{ClockOffset, Sample};

/// The offset of the store's clock. Unknown before the first lease, and for a store without a clock of its own.
#[derive(Debug, Default)]
pub(super) struct StoreClock(Option<ClockOffset>);

impl StoreClock {
    /// Forgets earlier samples: a new lease may come from another store, with another clock.
    pub(super) fn restart(&mut self, sample: Option<Sample>) {
        self.0 = sample.map(ClockOffset::new);
    }

    /// Takes in a sample. Returns whether the clock was set since the previous one.
    pub(super) fn has_jumped(&mut self, sample: Option<Sample>) -> bool {
        sample.is_some_and(|sample| self.0.get_or_insert_with(|| ClockOffset::new(sample)).narrow(sample))
    }

    /// The offset, if it is known.
    pub(super) fn offset(&self) -> Option<ClockOffset> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wire::Timestamp;

    use super::*;

    #[test]
    fn a_clock_that_is_set_is_reported_unless_a_new_lease_starts() {
        let now = Instant::now();
        let sample = |ms| Some(Sample { sent: now, read: Timestamp(ms), received: now });
        let mut clock = StoreClock::default();
        assert!(clock.offset().is_none() && !clock.has_jumped(None));
        assert!(!clock.has_jumped(sample(1_000_000)));
        assert!(!clock.has_jumped(sample(1_000_000)));
        assert!(clock.has_jumped(sample(5_000_000)));
        assert_eq!(clock.offset().unwrap().earliest(now), Timestamp(5_000_000));
        clock.restart(sample(1_000_000));
        assert!(!clock.has_jumped(sample(1_000_000)));
        clock.restart(None);
        assert!(clock.offset().is_none());
    }
}
