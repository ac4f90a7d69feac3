//! What the instance knows of itself, in one place that every thread may read: its phase, its broker, its
//! lease, and whether its loops still turn ([`Watchdog`]). [`InstanceState`] is what it comes to, and is logged once per change.
//!
//! The lease is looked at by the clock at every reading. A process that was stopped and goes on does not know it: whichever
//! thread looks first finds that the lease has ended meanwhile, and from then on all of them see that the instance is
//! fenced, whatever they had in hand.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use connection_registry::LeaseState;

use crate::health::instance_state::{InstanceState, LeaseStatus, Phase};
use crate::health::watchdog::Watchdog;

/// Shared by all threads. Relaxed throughout: no answer depends on two of these at one instant.
#[derive(Debug)]
pub(crate) struct Health {
    phase: AtomicU8,
    broker_up: AtomicBool,
    /// [`LOST`], [`FENCED`], or until when it is held: milliseconds after `begun`, or [`ENDLESS`].
    lease: AtomicU64,
    /// When a held lease ends in the store, a little after we stop to count on it.
    lease_end: AtomicU64,
    /// How often the instance has been fenced.
    fences: AtomicU64,
    /// As logged last.
    logged_state: AtomicU8,
    /// The zero of all milliseconds here.
    begun: Instant,
    watchdog: Watchdog,
}

/// There is no lease.
const LOST: u64 = 0;
/// It has been slept through, or taken over.
const FENCED: u64 = 1;
/// It lasts as long as the process.
const ENDLESS: u64 = u64::MAX;
/// Other values are milliseconds, plus this.
const TIMES: u64 = 2;

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a loop is stuck, and nothing is said")]
pub(crate) struct NoAnswer;

// === impl Health ===

impl Health {
    /// Starting, with neither broker nor lease.
    pub(crate) fn new(watchdog: Watchdog) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            broker_up: AtomicBool::new(false),
            lease: AtomicU64::new(LOST),
            lease_end: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            logged_state: AtomicU8::new(InstanceState::Starting as u8),
            begun: watchdog.begun(),
            watchdog,
        }
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.log_change();
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
        self.log_change();
    }

    /// Tells what the heartbeat task believes of the lease. With the memory broker it is always held.
    pub(crate) fn set_lease(&self, state: &LeaseState) {
        let lease = match state {
            LeaseState::Held { deadline: Some(deadline), end, .. } => {
                // First: whoever reads the new deadline must not take it for passed by the old end.
                self.lease_end.store(end.map_or(ENDLESS, |end| self.since_begun_ms(end)), Ordering::Release);
                self.since_begun_ms(*deadline) + TIMES
            }
            LeaseState::Held { deadline: None, .. } => ENDLESS,
            LeaseState::Lost(_) => LOST,
            LeaseState::Fenced => FENCED,
        };
        if self.lease.swap(lease, Ordering::AcqRel) != FENCED && lease == FENCED {
            self.fences.fetch_add(1, Ordering::Relaxed);
        }
        self.log_change();
    }

    /// What may be believed of the lease at `now`.
    pub(crate) fn lease(&self, now: Instant) -> LeaseStatus {
        let lease = self.lease.load(Ordering::Acquire);
        match lease {
            LOST => LeaseStatus::Lost,
            FENCED => LeaseStatus::Fenced,
            ENDLESS => LeaseStatus::Held,
            _ => {
                let now_ms = self.since_begun_ms(now);
                if now_ms < lease - TIMES {
                    LeaseStatus::Held
                } else if now_ms < self.lease_end.load(Ordering::Acquire) {
                    LeaseStatus::Lost
                } else {
                    self.fence(lease)
                }
            }
        }
    }

    /// How often the instance has been fenced until `now`. Whoever sees it change has in hand what may be stale.
    pub(crate) fn fences(&self, now: Instant) -> u64 {
        self.lease(now);
        self.fence_count()
    }

    /// How often anybody has noticed it.
    pub(crate) fn fence_count(&self) -> u64 {
        self.fences.load(Ordering::Relaxed)
    }

    /// Whether messages travel.
    pub(crate) fn is_broker_up(&self) -> bool {
        self.broker_up.load(Ordering::Relaxed)
    }

    /// How the instance stands.
    pub(crate) fn instance_state(&self, now: Instant) -> InstanceState {
        InstanceState::of(self.phase(), self.is_frozen(now), self.is_broker_up(), self.lease(now))
    }

    /// The clock says that a lease which was never renewed nor given up has ended: this process has slept.
    fn fence(&self, seen: u64) -> LeaseStatus {
        match self.lease.compare_exchange(seen, FENCED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.fences.fetch_add(1, Ordering::Relaxed);
                self.log_change();
                LeaseStatus::Fenced
            }
            Err(FENCED) => LeaseStatus::Fenced,
            // It was renewed in this moment, by a thread that had not slept.
            Err(_) => LeaseStatus::Lost,
        }
    }

    /// Logs how the instance stands, if that is news. Frozen is nobody's to tell.
    fn log_change(&self) {
        // A lease that has run out is `fence`'s to tell, and is by now.
        let lease = match self.lease.load(Ordering::Acquire) {
            LOST => LeaseStatus::Lost,
            FENCED => LeaseStatus::Fenced,
            _ => LeaseStatus::Held,
        };
        let instance_state = InstanceState::of(self.phase(), false, self.is_broker_up(), lease);
        let before = self.logged_state.swap(instance_state as u8, Ordering::Relaxed);
        if before == instance_state as u8 {
            return;
        }
        let word = instance_state.as_str();
        match instance_state {
            // At the start it is no trouble: the first attempt to reach Redis says how it is.
            InstanceState::LeaseLost | InstanceState::Isolated if before == InstanceState::Starting as u8 => {
                tracing::info!(state = word, "instance state changed");
            }
            InstanceState::LeaseLost | InstanceState::Isolated => {
                tracing::warn!(state = word, "instance state changed")
            }
            InstanceState::Fenced => tracing::error!(state = word, "instance state changed"),
            _ => tracing::info!(state = word, "instance state changed"),
        }
    }

    /// Where the instance's loops say that they turn.
    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Whether a loop has stopped. Then nobody gets an answer: that is what a process that is frozen as a whole looks like
    /// from outside, and HAProxy moves its clients on.
    pub(crate) fn is_frozen(&self, now: Instant) -> bool {
        self.watchdog.stuck(now).next().is_some()
    }

    fn since_begun_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use connection_registry::{Loss, Token};

    use super::*;
    use crate::health::watchdog::{FROZEN_AFTER, Loop};

    fn health(begun: Instant) -> Health {
        Health::new(Watchdog::new(2, FROZEN_AFTER, begun))
    }

    #[test]
    fn phases_only_move_forward() {
        let health = health(Instant::now());
        assert_eq!(health.phase(), Phase::Starting);
        health.advance(Phase::Draining);
        health.advance(Phase::Running);
        assert_eq!(health.phase(), Phase::Draining);
    }

    fn held(begun: Instant, deadline_ms: u64) -> LeaseState {
        let at = |ms| Some(begun + Duration::from_millis(ms));
        LeaseState::Held { token: Token::from_store("a"), deadline: at(deadline_ms), end: at(deadline_ms + 600) }
    }

    #[test]
    fn a_lease_that_was_slept_through_fences_whoever_looks_first() {
        let begun = Instant::now();
        let health = health(begun);
        let after = |ms| begun + Duration::from_millis(ms);
        assert_eq!((health.lease(begun), health.fences(begun)), (LeaseStatus::Lost, 0), "there was none yet");
        health.set_lease(&held(begun, 5_400));
        assert_eq!(health.lease(after(5_399)), LeaseStatus::Held);
        assert_eq!(health.lease(after(5_400)), LeaseStatus::Lost, "nobody has taken it yet");
        assert_eq!((health.fences(after(5_999)), health.lease(after(5_999))), (0, LeaseStatus::Lost));
        health.set_lease(&held(begun, 7_400));
        assert_eq!(health.lease(after(7_399)), LeaseStatus::Held, "renewed at the last moment");
        assert_eq!(health.fences(after(8_000)), 1);
        health.set_lease(&LeaseState::Fenced);
        assert_eq!(
            (health.fences(after(8_100)), health.lease(after(8_100))),
            (1, LeaseStatus::Fenced),
            "the heartbeat task says it too"
        );
        health.set_lease(&LeaseState::Lost(Loss::Starting));
        health.set_lease(&held(begun, 20_000));
        assert_eq!(
            (health.fences(after(9_000)), health.lease(after(9_000))),
            (1, LeaseStatus::Held),
            "a new incarnation"
        );
        health.set_lease(&LeaseState::Fenced);
        assert_eq!(health.fences(after(9_100)), 2, "the store refused its token");
    }

    #[test]
    fn a_lease_of_this_process_alone_has_no_end() {
        let begun = Instant::now();
        let health = health(begun);
        health.set_lease(&LeaseState::Held { token: Token::from_store("a"), deadline: None, end: None });
        assert_eq!(health.lease(begun + Duration::from_secs(1_000_000)), LeaseStatus::Held);
        health.set_broker_up(true);
        health.advance(Phase::Running);
        assert_eq!(health.instance_state(begun + Duration::from_secs(1)), InstanceState::Connected);
    }

    #[test]
    fn one_stuck_shard_freezes_the_instance() {
        let begun = Instant::now();
        let health = health(begun);
        let after = |ms| begun + Duration::from_millis(ms);
        health.advance(Phase::Running);
        for shard in [0, 1] {
            health.watchdog().report(Loop::Shard(shard), begun, begun);
        }
        assert_ne!(health.instance_state(after(5_000)), InstanceState::Frozen);
        health.watchdog().report(Loop::Shard(0), after(5_000), after(5_000));
        assert_eq!(health.instance_state(after(5_001)), InstanceState::Frozen);
        health.watchdog().report(Loop::Shard(1), after(5_001), after(5_001));
        assert_ne!(health.instance_state(after(5_001)), InstanceState::Frozen);
    }
}
