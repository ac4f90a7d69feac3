//! PURE. How many clients move in each slot of a drain, and when each of them reconnects.
//!
//! If all clients moved at once, the other instances would get a storm of connections. Therefore the clients are
//! closed in slots, evenly over the window, and the remaining clients are served as before. Few clients need no
//! window: they move as fast as the other instances accept them without effort. If the other instances accept fewer
//! clients than the window requires, the drain lasts longer, up to the grace period. A client that must move before
//! the others can accept it is told to reconnect later.

use std::time::Duration;

use crate::shard::departures::Departures;

/// Time from one slot to the next.
pub(crate) const SLOT: Duration = Duration::from_millis(20);

/// A rate that no instance notices, however many clients move: a fraction of the connections that an instance accepts
/// per second by default.
const EASY_PER_SECOND: f64 = 500.0;

/// The pace of one drain. Times are counted from its beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    window: Duration,
    /// Time by which the last client must move, so that it can still close its connection properly.
    last: Duration,
    /// Time of the previous slot.
    at: Duration,
    /// Fraction of a client that was left over in the previous slot.
    part: f64,
    /// Time by which the clients moved so far are accepted by other instances.
    taken: Duration,
}

impl Pace {
    pub(crate) fn new(window: Duration, last: Duration) -> Self {
        Self { window, last, at: Duration::ZERO, part: 0.0, taken: Duration::ZERO }
    }

    /// Returns how many of the `left` clients move now, and when they reconnect. The other instances accept
    /// `takes_per_second` clients; `None` is no limit.
    pub(crate) fn slot(&mut self, now: Duration, left: u64, takes_per_second: Option<u64>) -> Departures {
        let takes = takes_per_second.map_or(f64::INFINITY, |takes| takes as f64);
        let even = |until: Duration| left as f64 / until.saturating_sub(now).as_secs_f64();
        // Longer than the window if the other instances need it, but never past the last moment.
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

    /// Returns for each of `left` clients when it moves and when it reconnects. The other instances accept the number
    /// of clients that `takes` returns.
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

    /// The largest number of clients that reconnect within any second, and within any 100 ms.
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
        assert!(moved.iter().all(|[gone, back]| gone == back), "no client has to wait");
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
            (10_000, 3_000, 10_020), // The window is long enough.
            (10_000, 800, 12_520),   // The window is too short, so the drain lasts longer.
            (60_000, 3_000, 15_000), // The grace period is too short: the last clients are told to wait.
            (500, 50, 10_020),       // Even few clients are too many for small instances.
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

    /// The other instance's drain is known after a heartbeat. From then on each instance uses half of the capacity.
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
