//! PURE. How many clients are to be moved at which moment of a drain, and when each is to come back.
//!
//! All of them at once would be a storm for the other instances; so they are closed in slots, evenly over the window, and
//! those who are left are served as before. Few clients need no window: they go as fast as the others take them easily.
//! Where the others take fewer than the window asks for, the drain lasts longer, as long as the grace period lets it.
//! Who has to go before the others can take it is told to come back later.

use std::time::Duration;

use crate::shard::departures::Departures;

/// From one slot to the next.
pub(crate) const SLOT: Duration = Duration::from_millis(20);

/// A rate that no instance minds, however many leave: a fraction of the connects that each takes in by default.
const EASY_PER_SECOND: f64 = 500.0;

/// One drain. Times are counted from its beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    window: Duration,
    /// When the last one must go, to close in peace.
    last: Duration,
    /// Of the slot before.
    at: Duration,
    /// What the slot before was short of a whole client.
    part: f64,
    /// When those moved so far have been taken in.
    taken: Duration,
}

impl Pace {
    pub(crate) fn new(window: Duration, last: Duration) -> Self {
        Self { window, last, at: Duration::ZERO, part: 0.0, taken: Duration::ZERO }
    }

    /// Who of `left` goes now, while the other instances take in `takes_per_second`.
    pub(crate) fn slot(&mut self, now: Duration, left: u64, takes_per_second: Option<u64>) -> Departures {
        let takes = takes_per_second.map_or(f64::INFINITY, |takes| takes as f64);
        let even = |until: Duration| left as f64 / until.saturating_sub(now).as_secs_f64();
        // Later than the window if the others need it so, but never later than the last moment.
        let rate = even(self.window).max(EASY_PER_SECOND).min(takes).max(even(self.last));
        let due = match rate.is_finite() {
            true => rate * now.saturating_sub(self.at).as_secs_f64() + self.part,
            false => left as f64,
        };
        let count = due.min(left as f64).floor();
        (self.at, self.part) = (now, (due - count).min(1.0));
        self.taken = self.taken.max(now);
        let step = Duration::from_secs_f64(1.0 / takes);
        let departures = Departures { count: count as usize, after: self.taken - now, step };
        self.taken += step * count as u32;
        departures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);
    const LAST: Duration = Duration::from_secs(15);

    /// When each of `left` clients goes, and when it comes back, while the others take in what `takes` says.
    fn drained(
        window: Duration,
        last: Duration,
        mut left: u64,
        takes: impl Fn(Duration) -> Option<u64>,
    ) -> Vec<[u64; 2]> {
        let (mut pace, mut moved) = (Pace::new(window, last), Vec::new());
        let mut now = Duration::ZERO;
        while left > 0 {
            let departures = pace.slot(now, left, takes(now));
            let now_ms = now.as_millis() as u64;
            moved.extend(departures.after_ms().map(|after_ms| [now_ms, now_ms + after_ms]));
            left -= departures.count as u64;
            assert!(now <= last, "{left} are left after the last moment");
            now += SLOT;
        }
        moved
    }

    /// The most that come back within any second, and the most within any 100 ms.
    fn peaks(moved: &[[u64; 2]]) -> [usize; 2] {
        let mut back: Vec<u64> = moved.iter().map(|[_, back]| *back).collect();
        back.sort_unstable();
        [1_000, 100].map(|span_ms| {
            let within = |(n, from): (usize, &u64)| back[n..].partition_point(|at| *at < from + span_ms);
            back.iter().enumerate().map(within).max().unwrap_or(0)
        })
    }

    #[test]
    fn many_leave_evenly_over_the_window() {
        let moved = drained(WINDOW, LAST, 10_000, |_| None);
        let [gone_ms, _] = moved[9_999];
        assert!((9_900..=10_020).contains(&gone_ms), "{gone_ms}");
        let [_, in_100_ms] = peaks(&moved);
        assert!((95..=125).contains(&in_100_ms), "{in_100_ms}");
        assert!(moved.iter().all(|[gone, back]| gone == back), "nobody has to wait");
    }

    #[test]
    fn few_leave_at_an_easy_rate() {
        let moved = drained(WINDOW, LAST, 100, |_| Some(3_000));
        let [gone_ms, _] = moved[99];
        assert!((180..=220).contains(&gone_ms), "{gone_ms}");
        assert!(drained(WINDOW, LAST, 0, |_| None).is_empty());
    }

    #[test]
    fn no_more_come_back_than_the_others_take() {
        for (clients, takes, gone_by_ms) in [
            (10_000, 3_000, 10_020), // The window is enough.
            (10_000, 800, 12_520),   // It is not; the drain lasts longer.
            (60_000, 3_000, 15_000), // Nor is the grace period: the last ones are told to wait.
            (500, 50, 10_020),       // Even few are too many for small instances.
            (3_000, 20, 15_000),
        ] {
            let moved = drained(WINDOW, LAST, clients, |_| Some(takes));
            let [gone_ms, _] = *moved.last().unwrap();
            assert!(gone_ms <= gone_by_ms, "{clients} at {takes}/s have gone after {gone_ms} ms");
            let [in_a_second, _] = peaks(&moved);
            assert!(in_a_second as u64 <= takes + takes / 20 + 1, "{clients} at {takes}/s: {in_a_second} in a second");
            let back_ms = moved.iter().map(|[_, back]| *back).max().unwrap();
            let least_ms = (clients * 1_000 / takes).max(gone_ms);
            assert!(back_ms <= least_ms + 100, "{clients} at {takes}/s: the last is back after {back_ms} ms");
        }
    }

    /// The second instance's drain is known after a heartbeat; from then on each has half.
    #[test]
    fn a_drain_slows_down_when_another_one_begins() {
        let moved = drained(WINDOW, LAST, 10_000, |now| Some(if now.as_secs() < 2 { 2_000 } else { 600 }));
        let later: Vec<_> = moved.into_iter().filter(|[_, back]| *back >= 2_100).collect();
        let [in_a_second, _] = peaks(&later);
        assert!(in_a_second <= 631, "{in_a_second}");
    }

    #[test]
    fn without_a_window_they_go_as_fast_as_the_others_take_them() {
        let at_once = drained(Duration::ZERO, LAST, 5_000, |_| None);
        assert!(at_once.iter().all(|moved| *moved == [0, 0]));
        let [in_a_second, _] = peaks(&drained(Duration::ZERO, LAST, 5_000, |_| Some(1_000)));
        assert!(in_a_second <= 1_051, "{in_a_second}");
    }

    #[test]
    fn without_any_time_each_is_told_when_to_come_back() {
        let moved = drained(Duration::ZERO, Duration::ZERO, 5_000, |_| Some(1_000));
        assert!(moved.iter().all(|[gone, _]| *gone == 0));
        assert_eq!(moved[4_999], [0, 4_999]);
    }
}
