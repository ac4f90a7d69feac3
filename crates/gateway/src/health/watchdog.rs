//! Detects event loops that are stuck, and measures how late they are.
//!
//! ```text
//!   each shard, the pump, the edge ── alive, every REPORT_INTERVAL ──▶ Watchdog ◀── stuck? ── probes, agent check, metrics
//! ```
//!
//! The thread of the edge answers the probes. If the edge itself is stuck, no probe is answered, which has the same
//! meaning.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Interval at which an event loop reports. A task that occupies the thread for longer shows in the lag.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// The default of `watchdog.frozen_after_ms`.
#[cfg(test)]
pub(crate) const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// The worst lag covers the current window and the one before it.
const WINDOW: Duration = Duration::from_secs(60);

/// An event loop that must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The shard with this index.
    Shard(usize),
    Pump,
    Edge,
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// An event loop that has not reported for this time is stuck.
    frozen_after: Duration,
    /// The zero of all times in this struct.
    begun: Instant,
    /// One report per shard, then the pump's and the edge's.
    reports: Box<[LoopReport]>,
}

/// The report of one event loop. Only this event loop writes it.
#[derive(Debug, Default)]
struct LoopReport {
    /// Time of the last report in microseconds, plus one; 0 before the first report.
    reported_at: AtomicU64,
    /// The worst lag of the current window and of the one before, each packed with the number of its window.
    worst: [AtomicU64; 2],
}

// === impl Watchdog ===

impl Watchdog {
    pub(crate) fn new(shards: usize, frozen_after: Duration, now: Instant) -> Self {
        Self { frozen_after, begun: now, reports: (0..shards + 2).map(|_| LoopReport::default()).collect() }
    }

    /// The zero of its times.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Longest time between two reports of an event loop that is not stuck.
    pub(crate) fn frozen_after(&self) -> Duration {
        self.frozen_after
    }

    /// Reports that an event loop runs at `now`. It should have run at `due`.
    pub(crate) fn report(&self, which: Loop, due: Instant, now: Instant) {
        let lag = micros(now.saturating_duration_since(due));
        let report = &self.reports[self.index(which)];
        report.note(self.window(now), lag);
        report.reported_at.store(self.since_begun(now) + 1, Ordering::Relaxed);
    }

    /// Returns the event loops that have reported and then stopped. The edge is left out, because the edge is the one
    /// that asks.
    pub(crate) fn stuck(&self, now: Instant) -> impl Iterator<Item = Loop> {
        let oldest = self.since_begun(now).saturating_sub(micros(self.frozen_after));
        self.loops().filter(move |which| {
            let reported_at = self.reports[self.index(*which)].reported_at.load(Ordering::Relaxed);
            *which != Loop::Edge && reported_at != 0 && reported_at <= oldest
        })
    }

    /// Returns the worst lag of an event loop in the last one to two minutes, including the present delay.
    pub(crate) fn worst_lag(&self, which: Loop, now: Instant) -> Duration {
        let report = &self.reports[self.index(which)];
        let reported_at = report.reported_at.load(Ordering::Relaxed);
        let since = if reported_at == 0 { 0 } else { (self.since_begun(now) + 1).saturating_sub(reported_at) };
        let overdue = since.saturating_sub(micros(REPORT_INTERVAL));
        Duration::from_micros(report.worst(self.window(now)).max(overdue))
    }

    /// Returns every event loop.
    pub(crate) fn loops(&self) -> impl Iterator<Item = Loop> + use<> {
        (0..self.reports.len() - 2).map(Loop::Shard).chain([Loop::Pump, Loop::Edge])
    }

    fn index(&self, which: Loop) -> usize {
        match which {
            Loop::Shard(index) => index,
            Loop::Pump => self.reports.len() - 2,
            Loop::Edge => self.reports.len() - 1,
        }
    }

    fn since_begun(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.begun))
    }

    fn window(&self, now: Instant) -> u64 {
        self.since_begun(now) / micros(WINDOW)
    }
}

impl LoopReport {
    fn note(&self, window: u64, lag: u64) {
        let [current, before] = &self.worst;
        let (last, worst) = unpack(current.load(Ordering::Relaxed));
        if last != window {
            before.store(pack(last, worst), Ordering::Relaxed);
        }
        let worst = if last == window { worst.max(lag) } else { lag };
        current.store(pack(window, worst), Ordering::Relaxed);
    }

    fn worst(&self, window: u64) -> u64 {
        let recent = |(of, worst)| if of + 1 >= window { worst } else { 0 };
        self.worst.iter().map(|packed| recent(unpack(packed.load(Ordering::Relaxed)))).max().unwrap_or(0)
    }
}

/// Packs the number of the window and the lag in microseconds into 32 bits each. The largest lag is more than an
/// hour.
fn pack(window: u64, lag: u64) -> u64 {
    window << 32 | lag.min(u64::from(u32::MAX))
}

fn unpack(packed: u64) -> (u64, u64) {
    (packed >> 32, packed & u64::from(u32::MAX))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1)
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(index) => write!(f, "shard-{index}"),
            Self::Pump => f.write_str("pump"),
            Self::Edge => f.write_str("edge"),
        }
    }
}

/// Creates the timer that an event loop uses to report.
pub(crate) fn report_timer() -> Interval {
    let mut report_timer = interval(REPORT_INTERVAL);
    report_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    report_timer
}

/// Reports for the edge. Logs once when another event loop is stuck, and once when it runs again.
pub(crate) async fn watch(watchdog: &Watchdog) -> Infallible {
    let mut report_timer = report_timer();
    let mut stuck = Vec::new();
    loop {
        let due = report_timer.tick().await.into_std();
        let now = Instant::now();
        watchdog.report(Loop::Edge, due, now);
        let before = std::mem::replace(&mut stuck, watchdog.stuck(now).collect());
        for which in stuck.iter().filter(|which| !before.contains(which)) {
            tracing::error!(event_loop = %which, after = ?watchdog.frozen_after(), "event loop stuck: instance frozen");
        }
        for which in before.iter().filter(|which| !stuck.contains(which)) {
            tracing::warn!(event_loop = %which, lag = ?watchdog.worst_lag(*which, now), "event loop running again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(begun: Instant) -> (Watchdog, impl Fn(u64) -> Instant) {
        (Watchdog::new(2, FROZEN_AFTER, begun), move |ms| begun + Duration::from_millis(ms))
    }

    #[test]
    fn a_stopped_thread_is_stuck_and_one_that_has_not_begun_is_not() {
        let (watchdog, at) = watchdog(Instant::now());
        let stuck = |ms| watchdog.stuck(at(ms)).collect::<Vec<_>>();
        assert_eq!(stuck(60_000), []);
        watchdog.loops().for_each(|which| watchdog.report(which, at(0), at(0)));
        assert_eq!(stuck(5_000), []);
        assert_eq!(stuck(5_001), [Loop::Shard(0), Loop::Shard(1), Loop::Pump], "the edge is who asks");
        watchdog.report(Loop::Shard(0), at(250), at(5_000));
        watchdog.report(Loop::Pump, at(250), at(5_000));
        assert_eq!(stuck(5_001), [Loop::Shard(1)]);
        watchdog.report(Loop::Shard(1), at(250), at(5_001));
        assert_eq!(stuck(10_000), []);
    }

    #[test]
    fn the_worst_lag_is_of_the_last_two_windows_and_of_now() {
        let (watchdog, at) = watchdog(Instant::now());
        let lag = |ms| watchdog.worst_lag(Loop::Pump, at(ms)).as_millis();
        assert_eq!(lag(10_000), 0, "it has not begun");
        watchdog.report(Loop::Pump, at(1_000), at(1_700));
        watchdog.report(Loop::Pump, at(1_950), at(1_950));
        assert_eq!((lag(1_950), lag(2_200)), (700, 700));
        assert_eq!(lag(3_200), 1_000, "it is a second overdue");
        for (ms, expected) in [(3_000, 700), (61_000, 700), (119_999, 700), (121_000, 0)] {
            watchdog.report(Loop::Pump, at(ms), at(ms));
            assert_eq!(lag(ms), expected, "after {ms} ms");
        }
        assert_eq!(watchdog.worst_lag(Loop::Edge, at(121_000)), Duration::ZERO, "each has its own");
    }
}
