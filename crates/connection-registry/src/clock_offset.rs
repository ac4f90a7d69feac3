//! PURE. The offset of the store's clock. Times of arrival are by the store's clock, because all instances share it; an
//! instance's own wall clock may be hours off.
//!
//! ```text
//!   instance ──sent────────────────────received──▶     the store's clock was read in between, so it is ahead by
//!   store    ──────────── read ──────────────────▶     at least read − received and at most read − sent
//! ```
//!
//! Each reply with the store's time narrows the offset, and a slow reply does not widen it. Of two connections of one
//! session the later one stays, so times of different instances must be comparable: a moment has an earliest and a
//! latest time.

use std::time::{Duration, Instant};

use wire::Timestamp;

/// Samples that contradict each other by more than this show that a clock was set. Two clocks of different speed differ
/// by about 1 ms from one heartbeat to the next. In µs.
const JUMP_MIN: i64 = 100_000;

/// One reading of the store's clock, between two moments of this instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) sent: Instant,
    pub(crate) read: Timestamp,
    pub(crate) received: Instant,
}

/// How far the store's clock is ahead of this instance's monotonic clock: in µs, counted from `here`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockOffset {
    here: Instant,
    least: i64,
    most: i64,
}

impl ClockOffset {
    /// The offset after one sample.
    pub(crate) fn new(sample: Sample) -> Self {
        let mut clock_offset = Self { here: sample.sent, least: 0, most: 0 };
        (clock_offset.least, clock_offset.most) = clock_offset.bounds(sample);
        clock_offset
    }

    /// Takes in another sample. If it contradicts the earlier ones a little, the clocks have different speeds, and the
    /// offset moves as far as it must. If it contradicts them by more, a clock was set, and only this sample counts.
    /// Returns whether a clock was set: earlier times are then not comparable with later ones.
    #[must_use]
    pub(crate) fn narrow(&mut self, sample: Sample) -> bool {
        let (least, most) = self.bounds(sample);
        if least - self.most > JUMP_MIN || self.least - most > JUMP_MIN {
            *self = Self::new(sample);
            return true;
        }
        (self.least, self.most) = match (least > self.most, most < self.least) {
            (true, _) => (least, least),
            (_, true) => (most, most),
            _ => (least.max(self.least), most.min(self.most)),
        };
        false
    }

    /// Earliest possible time of the store's clock at a moment of this instance.
    pub(crate) fn earliest(&self, moment: Instant) -> Timestamp {
        self.date(moment, self.least)
    }

    /// Latest possible time of the store's clock at a moment of this instance.
    pub(crate) fn latest(&self, moment: Instant) -> Timestamp {
        self.date(moment, self.most)
    }

    fn date(&self, moment: Instant, ahead: i64) -> Timestamp {
        Timestamp(u64::try_from((self.micros(moment) + ahead) / 1_000).unwrap_or(0))
    }

    fn bounds(&self, Sample { sent, read, received }: Sample) -> (i64, i64) {
        // The store's time is in whole milliseconds.
        let read = i64::try_from(read.0.saturating_mul(1_000)).unwrap_or(i64::MAX / 2);
        (read - self.micros(received), read + 999 - self.micros(sent))
    }

    fn micros(&self, moment: Instant) -> i64 {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4);
        match moment.checked_duration_since(self.here) {
            Some(after) => micros(after),
            None => -micros(self.here - moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A call that is sent at `sent` ms and takes `there` and `back` ms, to a store whose clock is `ahead` ms ahead.
    fn sample(start: Instant, sent: u64, ahead: u64, there: u64, back: u64) -> Sample {
        let read = Timestamp(sent + there + ahead);
        Sample { sent: start + millis(sent), read, received: start + millis(sent + there + back) }
    }

    fn span(clock_offset: &ClockOffset, moment: Instant) -> (u64, u64) {
        (clock_offset.earliest(moment).0, clock_offset.latest(moment).0)
    }

    #[test]
    fn moments_are_dated_on_both_sides_of_the_one_that_is_known() {
        let here = Instant::now() + Duration::from_secs(60);
        let clock_offset = ClockOffset::new(Sample { sent: here, read: Timestamp(1_000_000), received: here });
        assert_eq!(span(&clock_offset, here + millis(1_500)), (1_001_500, 1_001_500));
        assert_eq!(span(&clock_offset, here - millis(1_500)), (998_500, 998_500));
    }

    #[test]
    fn a_slow_answer_says_little_and_a_quick_one_much() {
        let start = Instant::now() + Duration::from_secs(60);
        let moment = start + millis(500);
        let mut clock_offset = ClockOffset::new(sample(start, 0, 1_000_000, 20, 300));
        assert_eq!(span(&clock_offset, moment), (1_000_200, 1_000_520));
        assert!(!clock_offset.narrow(sample(start, 1_000, 1_000_000, 1, 0)));
        assert_eq!(span(&clock_offset, moment), (1_000_500, 1_000_501));
        // Slow samples widen nothing, whether the request or the reply was slow.
        assert!(!clock_offset.narrow(sample(start, 2_000, 1_000_000, 400, 1)));
        assert!(!clock_offset.narrow(sample(start, 3_000, 1_000_000, 1, 400)));
        assert_eq!(span(&clock_offset, moment), (1_000_500, 1_000_501));
    }

    #[test]
    fn clocks_that_drift_apart_or_jump_are_followed() {
        let start = Instant::now() + Duration::from_secs(60);
        for drift in [-50, -1, 1, 50_i64] {
            let mut clock_offset = ClockOffset::new(sample(start, 0, 1_000_000, 1, 1));
            for second in 1..=10_000_u64 {
                // The drift is in ms per 1,000 s.
                let ahead = 1_000_000_u64.saturating_add_signed(drift * second as i64 / 1_000);
                // Two of three calls are slow, in one direction.
                let (there, back) = [(1, 1), (80, 1), (1, 90)][second as usize % 3];
                assert!(!clock_offset.narrow(sample(start, second * 1_000, ahead, there, back)));
                let (earliest, latest) = span(&clock_offset, start + millis(second * 1_000));
                let right = ahead + second * 1_000;
                assert!(
                    earliest.abs_diff(right) <= 3 && latest.abs_diff(right) <= 3,
                    "{drift} {earliest} {right} {latest}"
                );
            }
        }
        for jump in [-3_600_000, 3_600_000_i64] {
            let mut clock_offset = ClockOffset::new(sample(start, 0, 100_000_000, 1, 1));
            let ahead = 100_000_000_u64.saturating_add_signed(jump);
            assert!(clock_offset.narrow(sample(start, 1_000, ahead, 1, 200)));
            assert_eq!(span(&clock_offset, start), (ahead - 200, ahead + 1), "as much as one sample says");
            assert!(!clock_offset.narrow(sample(start, 2_000, ahead, 1, 1)));
            let (earliest, latest) = span(&clock_offset, start);
            assert!(earliest <= ahead && ahead <= latest && latest - earliest <= 3, "{earliest} {ahead} {latest}");
        }
    }
}
