//! When connections arrived, without storing a time in each of them.

use std::collections::VecDeque;
use std::time::Duration;

/// Arrivals are remembered for this long. They take at most 58 KB.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(3_600);

/// For each second with an arrival, the number of its first connection. Numbers only grow.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(VecDeque<(u64, u64)>);

impl Arrivals {
    /// Notes that connection `number` arrives.
    pub(crate) fn note(&mut self, now_ms: u64, number: u64) {
        let second = now_ms / 1_000;
        if self.0.back().is_none_or(|(last, _)| *last < second) {
            self.0.push_back((second, number));
        }
        while self.0.front().is_some_and(|(first, _)| first + KNOWN_FOR.as_secs() < second) {
            self.0.pop_front();
        }
    }

    /// All connections that arrived at least `ago` have numbers below this one. `ago` is at most [`KNOWN_FOR`].
    pub(crate) fn before(&self, now_ms: u64, ago: Duration) -> u64 {
        let by_ms = now_ms.saturating_sub(ago.as_millis() as u64);
        // The whole second must have passed by then.
        let earlier = self.0.partition_point(|(second, _)| (second + 1) * 1_000 <= by_ms);
        self.0.get(earlier).map_or(u64::MAX, |(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_before_is_known_by_its_number() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.before(99_000, Duration::ZERO), u64::MAX, "nobody has come");
        for (now_ms, number) in [(10_100, 1), (10_900, 2), (12_000, 7), (40_000, 9)] {
            arrivals.note(now_ms, number);
        }
        let before = |now_ms, seconds| arrivals.before(now_ms, Duration::from_secs(seconds));
        assert_eq!(before(20_000, 10), 1, "in whole seconds: not yet");
        assert_eq!(before(21_000, 10), 7);
        assert_eq!(before(23_000, 10), 9);
        assert_eq!(before(50_999, 10), 9);
        assert_eq!(before(51_000, 10), u64::MAX);
        assert_eq!(before(5_000, 10), 1);
    }

    #[test]
    fn only_so_much_is_kept() {
        let mut arrivals = Arrivals::default();
        (0..100_000).for_each(|second| arrivals.note(second * 1_000, second));
        assert_eq!(arrivals.0.len() as u64, KNOWN_FOR.as_secs() + 1);
        assert_eq!(arrivals.before(100_000_000, KNOWN_FOR), 96_400);
    }
}
