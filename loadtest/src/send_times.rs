//! When each message was due, shared between the publisher and the receivers; both live in this process, so one
//! clock serves both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages remembered. No scenario has more than this many under way.
const RING: usize = 1 << 16;

/// A ring of due times by message number.
#[derive(Debug)]
pub(crate) struct SendTimes {
    epoch: Instant,
    /// Microseconds after `epoch`.
    due_us: Box<[AtomicU64]>,
}

impl SendTimes {
    pub(crate) fn new() -> Self {
        let due_us = std::iter::repeat_with(AtomicU64::default).take(RING).collect();
        Self { epoch: Instant::now(), due_us }
    }

    /// Notes that message `number` was to be published at `due`, whether or not the publisher was late: time spent
    /// waiting for a busy publisher is part of the latency.
    pub(crate) fn note(&self, number: u64, due: Instant) {
        self.slot(number).store(self.micros(due), Ordering::Relaxed);
    }

    /// How long before `now` message `number` was due.
    pub(crate) fn age(&self, number: u64, now: Instant) -> Duration {
        Duration::from_micros(self.micros(now).saturating_sub(self.slot(number).load(Ordering::Relaxed)))
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        &self.due_us[number as usize % RING]
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_message_was_due() {
        let times = SendTimes::new();
        let due = times.epoch + Duration::from_millis(5);
        times.note(RING as u64 + 3, due);
        assert_eq!(times.age(RING as u64 + 3, due + Duration::from_micros(1_500)), Duration::from_micros(1_500));
        assert_eq!(times.age(RING as u64 + 3, due - Duration::from_millis(1)), Duration::ZERO, "never negative");
    }
}
