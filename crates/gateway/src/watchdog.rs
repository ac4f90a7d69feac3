//! Whether the instance's loops turn, and how late they are.
//!
//! ```text
//!   each shard, the pump, the edge ── "I turn", every PULSE ──▶ Watchdog ◀── stuck? ── whoever answers for the instance
//! ```
//!
//! It is the edge's thread that answers. When that one is stuck itself nobody does, which says the same.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::health::Health;

/// How often a loop says that it turns. What takes a thread for longer shows in its lag.
pub(crate) const PULSE: Duration = Duration::from_millis(250);

/// What the tests take, and the default.
#[cfg(test)]
pub(crate) const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// The worst lag is that of the present window and the one before it.
const WINDOW: Duration = Duration::from_secs(60);

/// A loop that has to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    /// By index.
    Shard(usize),
    Pump,
    Edge,
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Whoever has not turned for so long is stuck.
    frozen_after: Duration,
    /// The zero of all times here.
    begun: Instant,
    /// Those of the shards, the pump's and the edge's.
    pulses: Box<[Pulse]>,
}

/// What is known of one loop. It alone writes.
#[derive(Debug, Default)]
struct Pulse {
    /// Microseconds, plus one, of its last turn; 0 before the first.
    turned: AtomicU64,
    /// The worst lag of a window and of the one before: the window's number, then microseconds.
    worst: [AtomicU64; 2],
}

// === impl Watchdog ===

impl Watchdog {
    pub(crate) fn new(shards: usize, frozen_after: Duration, now: Instant) -> Self {
        Self { frozen_after, begun: now, pulses: (0..shards + 2).map(|_| Pulse::default()).collect() }
    }

    /// The zero of its times.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// How long a loop may stand still.
    pub(crate) fn frozen_after(&self) -> Duration {
        self.frozen_after
    }

    /// A loop turns, though it was to do so at `due`.
    pub(crate) fn turn(&self, which: Loop, due: Instant, now: Instant) {
        let lag = micros(now.saturating_duration_since(due));
        let pulse = &self.pulses[self.index(which)];
        pulse.note(self.window(now), lag);
        pulse.turned.store(self.since_begun(now) + 1, Ordering::Relaxed);
    }

    /// Those that once turned and have stopped. Not the edge: it is the edge that asks.
    pub(crate) fn stuck(&self, now: Instant) -> impl Iterator<Item = Loop> {
        let oldest = self.since_begun(now).saturating_sub(micros(self.frozen_after));
        self.loops().filter(move |which| {
            let turned = self.pulses[self.index(*which)].turned.load(Ordering::Relaxed);
            *which != Loop::Edge && turned != 0 && turned <= oldest
        })
    }

    /// By how much a loop was late at worst in the last minute or two, and is now.
    pub(crate) fn worst_lag(&self, which: Loop, now: Instant) -> Duration {
        let pulse = &self.pulses[self.index(which)];
        let turned = pulse.turned.load(Ordering::Relaxed);
        let since = if turned == 0 { 0 } else { (self.since_begun(now) + 1).saturating_sub(turned) };
        let overdue = since.saturating_sub(micros(PULSE));
        Duration::from_micros(pulse.worst(self.window(now)).max(overdue))
    }

    /// All of them.
    pub(crate) fn loops(&self) -> impl Iterator<Item = Loop> + use<> {
        (0..self.pulses.len() - 2).map(Loop::Shard).chain([Loop::Pump, Loop::Edge])
    }

    fn index(&self, which: Loop) -> usize {
        match which {
            Loop::Shard(index) => index,
            Loop::Pump => self.pulses.len() - 2,
            Loop::Edge => self.pulses.len() - 1,
        }
    }

    fn since_begun(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.begun))
    }

    fn window(&self, now: Instant) -> u64 {
        self.since_begun(now) / micros(WINDOW)
    }
}

impl Pulse {
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

/// The window's number in 32 bits, the lag in as many: more than an hour of it.
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

/// A loop's own timer for saying that it turns.
pub(crate) fn pulses() -> Interval {
    let mut pulses = interval(PULSE);
    pulses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulses
}

/// The edge's pulse. It also says once of each other loop that it has stopped, and that it turns again.
pub(crate) async fn watch(health: &Health) -> Infallible {
    let mut pulses = pulses();
    let mut stuck = Vec::new();
    loop {
        let due = pulses.tick().await.into_std();
        let now = Instant::now();
        let watchdog = health.watchdog();
        watchdog.turn(Loop::Edge, due, now);
        let before = std::mem::replace(&mut stuck, watchdog.stuck(now).collect());
        for which in stuck.iter().filter(|which| !before.contains(which)) {
            tracing::error!(event_loop = %which, "has not turned for {:?}: the instance is frozen", watchdog.frozen_after());
        }
        for which in before.iter().filter(|which| !stuck.contains(which)) {
            tracing::warn!(event_loop = %which, lag = ?watchdog.worst_lag(*which, now), "turns again");
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
    fn whoever_has_stopped_is_stuck_and_whoever_has_not_begun_is_not() {
        let (watchdog, at) = watchdog(Instant::now());
        let stuck = |ms| watchdog.stuck(at(ms)).collect::<Vec<_>>();
        assert_eq!(stuck(60_000), []);
        watchdog.loops().for_each(|which| watchdog.turn(which, at(0), at(0)));
        assert_eq!(stuck(5_000), []);
        assert_eq!(stuck(5_001), [Loop::Shard(0), Loop::Shard(1), Loop::Pump], "the edge is who asks");
        watchdog.turn(Loop::Shard(0), at(250), at(5_000));
        watchdog.turn(Loop::Pump, at(250), at(5_000));
        assert_eq!(stuck(5_001), [Loop::Shard(1)]);
        watchdog.turn(Loop::Shard(1), at(250), at(5_001));
        assert_eq!(stuck(10_000), []);
    }

    #[test]
    fn the_worst_lag_is_of_the_last_two_windows_and_of_now() {
        let (watchdog, at) = watchdog(Instant::now());
        let lag = |ms| watchdog.worst_lag(Loop::Pump, at(ms)).as_millis();
        assert_eq!(lag(10_000), 0, "it has not begun");
        watchdog.turn(Loop::Pump, at(1_000), at(1_700));
        watchdog.turn(Loop::Pump, at(1_950), at(1_950));
        assert_eq!((lag(1_950), lag(2_200)), (700, 700));
        assert_eq!(lag(3_200), 1_000, "it is a second overdue");
        for (ms, expected) in [(3_000, 700), (61_000, 700), (119_999, 700), (121_000, 0)] {
            watchdog.turn(Loop::Pump, at(ms), at(ms));
            assert_eq!(lag(ms), expected, "after {ms} ms");
        }
        assert_eq!(watchdog.worst_lag(Loop::Edge, at(121_000)), Duration::ZERO, "each has its own");
    }
}
