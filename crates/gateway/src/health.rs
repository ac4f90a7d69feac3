//! What the instance knows of itself, in one place that every thread may read: its phase, its broker, its
//! lease, and whether its shards still turn.
//!
//! Who is told what. HAProxy is never told "down" because Redis is away ([`crate::agent`] says why):
//!
//! ```text
//!                 /ws/health   agent check   /livez   /readyz
//!   starting      404          up 0%         200      503
//!   connected     200          up 100%       200      200
//!   isolated      200          up 1%         200      200
//!   draining      404          up 0%         200      503
//!   frozen        silence      silence       silence  silence
//! ```

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A shard that has not turned for so long is stuck, not busy: its passes end after a millisecond.
pub(crate) const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// Where the process stands in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not ready for connections.
    Starting,
    /// Taking connections.
    Running,
    /// Taking none, moving those it has.
    Draining,
}

/// Shared by all threads. Relaxed throughout: no answer depends on two of these at one instant.
#[derive(Debug)]
pub(crate) struct Health {
    phase: AtomicU8,
    broker_up: AtomicBool,
    lease_held: AtomicBool,
    /// The zero of `beats`.
    begun: Instant,
    /// By shard: milliseconds after `begun`, plus one, of its last turn; 0 before the first.
    beats: Box<[AtomicU64]>,
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a shard is stuck, and nothing is said")]
pub(crate) struct Silence;

// === impl Health ===

impl Health {
    /// Starting, with neither broker nor lease.
    pub(crate) fn new(shards: usize, now: Instant) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            broker_up: AtomicBool::new(false),
            lease_held: AtomicBool::new(false),
            begun: now,
            beats: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    /// Tells whether messages travel from here through the broker and back.
    pub(crate) fn set_broker_up(&self, up: bool) {
        self.broker_up.store(up, Ordering::Relaxed);
    }

    /// Tells whether this incarnation holds its lease. With the memory broker it always does.
    pub(crate) fn set_lease_held(&self, held: bool) {
        self.lease_held.store(held, Ordering::Relaxed);
    }

    /// Whether the lease is held.
    pub(crate) fn is_lease_held(&self) -> bool {
        self.lease_held.load(Ordering::Relaxed)
    }

    /// Whether only local members can be reached: no broker, or no lease.
    pub(crate) fn is_isolated(&self) -> bool {
        !self.broker_up.load(Ordering::Relaxed) || !self.is_lease_held()
    }

    /// Shard `index` says that its loop turns; several times within [`FROZEN_AFTER`].
    pub(crate) fn beat(&self, index: usize, now: Instant) {
        self.beats[index].store(self.since_begun_ms(now) + 1, Ordering::Relaxed);
    }

    /// Whether a shard that once turned has stopped. Then nobody gets an answer: that is what a process
    /// that is frozen as a whole looks like from outside, and HAProxy moves its clients on.
    pub(crate) fn is_frozen(&self, now: Instant) -> bool {
        let oldest = self.since_begun_ms(now).saturating_sub(FROZEN_AFTER.as_millis() as u64);
        self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).any(|beat| beat != 0 && beat <= oldest)
    }

    fn since_begun_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_move_forward() {
        let health = Health::new(0, Instant::now());
        assert_eq!(health.phase(), Phase::Starting);
        health.advance(Phase::Draining);
        health.advance(Phase::Running);
        assert_eq!(health.phase(), Phase::Draining);
    }

    #[test]
    fn alone_without_broker_or_lease() {
        let health = Health::new(0, Instant::now());
        for (broker, lease, isolated) in [(true, true, false), (false, true, true), (true, false, true)] {
            health.set_broker_up(broker);
            health.set_lease_held(lease);
            assert_eq!(health.is_isolated(), isolated, "broker {broker}, lease {lease}");
        }
    }

    #[test]
    fn one_stuck_shard_freezes_the_instance() {
        let begun = Instant::now();
        let health = Health::new(2, begun);
        let after = |ms| begun + Duration::from_millis(ms);
        assert!(!health.is_frozen(after(60_000)), "shards that have not begun are not stuck");
        health.beat(0, after(0));
        health.beat(1, after(0));
        assert!(!health.is_frozen(after(5_000)));
        assert!(health.is_frozen(after(5_001)));
        health.beat(0, after(5_000));
        assert!(health.is_frozen(after(5_001)), "shard 1 is still stuck");
        health.beat(1, after(5_001));
        assert!(!health.is_frozen(after(10_000)));
    }
}
