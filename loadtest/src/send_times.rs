//! The time at which each message was due. The publisher and the receivers share it. Both run in this process, so they
//! use the same clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Number of messages in the ring. No scenario has more outstanding messages.
const RING: usize = 1 << 16;

/// A ring of due times by message number.
#[derive(Debug)]
pub(crate) struct SendTimes {
    epoch: Instant,
    /// Due times in microseconds after `epoch`.
    due_us: Box<[AtomicU64]>,
}

impl SendTimes {
    pub(crate) fn new() -> Self {
        let due_us = std::iter::repeat_with(AtomicU64::default).take(RING).collect();
        Self { epoch: Instant::now(), due_us }
    }

    /// Notes that message `number` was due at `due`, even if the publisher was late: the time that a message waits for
    /// a busy publisher is part of its latency.
    pub(crate) fn note(&self, number: u64, due: Instant) {
        self.slot(number).store(self.micros(due), Ordering::Relaxed);
    }

    /// The time between the due time of message `number` and `now`.
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
