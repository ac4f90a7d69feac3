//! The health of the instance, which every thread can read: its phase, its broker, its lease, and whether its event
//! loops run ([`Watchdog`]). They give the [`InstanceState`], which is logged once per change.
//!
//! Every read compares the lease with the clock. A process that was stopped and continues does not know it. The first
//! thread that reads the lease afterwards finds that it has ended. From then on every thread sees that the instance
//! is fenced, whatever it is working on.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use connection_registry::LeaseState;
use tokio::sync::Notify;

use crate::health::instance_state::{BrokerStatus, InstanceState, LeaseStatus, Phase};
use crate::health::watchdog::Watchdog;

/// Shared by all threads. All accesses may be relaxed where no result depends on two fields at one instant.
#[derive(Debug)]
pub(crate) struct Health {
    phase: AtomicU8,
    broker: AtomicU8,
    /// Why the broker is not up, in the broker's words. Locked when it changes and when an operator asks.
    broker_failure: Mutex<Option<Arc<str>>>,
    /// Notified when the broker is back.
    broker_return: Notify,
    /// [`LOST`], [`FENCED`], [`ENDLESS`], or the deadline of a held lease: milliseconds after `begun`, plus
    /// [`TIMES`].
    lease: AtomicU64,
    /// End of a held lease in the store, in milliseconds after `begun`. It is a little later than the deadline, until
    /// which the instance relies on the lease.
    lease_end: AtomicU64,
    /// How often the instance has been fenced.
    fences: AtomicU64,
    /// The state that was logged last.
    logged_state: AtomicU8,
    /// The zero of all milliseconds in this struct.
    begun: Instant,
    watchdog: Watchdog,
}

/// The instance has no lease.
const LOST: u64 = 0;
/// The process was stopped past the end of the lease, or another process took it.
const FENCED: u64 = 1;
/// The lease lasts as long as the process.
const ENDLESS: u64 = u64::MAX;
/// Offset of all other values, which are milliseconds.
const TIMES: u64 = 2;

/// The error that closes a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("an event loop is stuck, so the request is not answered")]
pub(crate) struct NoAnswer;

// === impl Health ===

impl Health {
    /// Starts in the phase `Starting`, without broker and without lease.
    pub(crate) fn new(watchdog: Watchdog) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            broker: AtomicU8::new(BrokerStatus::NeverUp as u8),
            broker_failure: Mutex::new(None),
            broker_return: Notify::new(),
            lease: AtomicU64::new(LOST),
            lease_end: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            logged_state: AtomicU8::new(InstanceState::Starting as u8),
            begun: watchdog.begun(),
            watchdog,
        }
    }

    /// Advances to `phase`. It never goes back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.log_change();
    }

    /// Returns the current phase.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Terminating,
            _ => Phase::Draining,
        }
    }

    /// Takes in that messages travel from this instance through the broker and back.
    pub(crate) fn broker_is_up(&self) {
        *self.broker_failure() = None;
        if self.broker.swap(BrokerStatus::Up as u8, Ordering::Relaxed) != BrokerStatus::Up as u8 {
            self.broker_return.notify_one();
        }
        self.log_change();
    }

    /// Takes in that they do not, and why.
    pub(crate) fn broker_is_down(&self, failure: &str) {
        let before = self.broker_failure().replace(failure.into());
        // Relaxed is enough: the pump alone writes.
        if self.broker() == BrokerStatus::Up {
            self.broker.store(BrokerStatus::Down as u8, Ordering::Relaxed);
        } else if before.is_some_and(|before| &*before != failure) {
            // The same outage, seen by another step of a later attempt.
            tracing::info!(reason = failure, "broker still unavailable");
        } else if self.phase() != Phase::Starting && self.broker() == BrokerStatus::NeverUp {
            tracing::warn!(
                state = InstanceState::Connecting.as_str(),
                reason = failure,
                "broker not reached: not ready"
            );
        }
        self.log_change();
    }

    /// Why the broker is not up, for operators. Nothing while it is, and before the first attempt has ended.
    pub(crate) fn broker_failure_reason(&self) -> Option<Arc<str>> {
        self.broker_failure().clone()
    }

    fn broker_failure(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        self.broker_failure.lock().expect("nobody panics while holding it")
    }

    pub(crate) fn broker(&self) -> BrokerStatus {
        match self.broker.load(Ordering::Relaxed) {
            0 => BrokerStatus::NeverUp,
            1 => BrokerStatus::Up,
            _ => BrokerStatus::Down,
        }
    }

    /// Sets the lease as the heartbeat task sees it. With the memory broker it is always held.
    pub(crate) fn set_lease(&self, state: &LeaseState) {
        let lease = match state {
            LeaseState::Held { deadline: Some(deadline), end, .. } => {
                // The end is stored first: a thread that reads the new deadline must not compare it with the old end.
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

    /// Returns the status of the lease at `now`.
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

    /// Returns how often the instance has been fenced until `now`. If the number changes, the reader's data may be
    /// stale.
    pub(crate) fn fences(&self, now: Instant) -> u64 {
        self.lease(now);
        self.fence_count()
    }

    /// Returns how often a thread has noticed that the instance is fenced.
    pub(crate) fn fence_count(&self) -> u64 {
        self.fences.load(Ordering::Relaxed)
    }

    /// Waits until the broker is back. If it has come back since the last call, this returns at once.
    pub(crate) async fn broker_returned(&self) {
        self.broker_return.notified().await;
    }

    /// Returns the state of the instance at `now`.
    pub(crate) fn instance_state(&self, now: Instant) -> InstanceState {
        InstanceState::of(self.phase(), self.is_frozen(now), self.broker(), self.lease(now))
    }

    /// Fences the instance: by the clock, a lease that was neither renewed nor released has ended, so this process
    /// was stopped.
    fn fence(&self, seen: u64) -> LeaseStatus {
        match self.lease.compare_exchange(seen, FENCED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.fences.fetch_add(1, Ordering::Relaxed);
                self.log_change();
                LeaseStatus::Fenced
            }
            Err(FENCED) => LeaseStatus::Fenced,
            // Another thread, which was not stopped, has just renewed the lease.
            Err(_) => LeaseStatus::Lost,
        }
    }

    /// Logs the state of the instance if it has changed. The watchdog logs a frozen instance.
    fn log_change(&self) {
        // `fence` logs the end of a lease, and has done so already.
        let lease = match self.lease.load(Ordering::Acquire) {
            LOST => LeaseStatus::Lost,
            FENCED => LeaseStatus::Fenced,
            _ => LeaseStatus::Held,
        };
        let instance_state = InstanceState::of(self.phase(), false, self.broker(), lease);
        let before = self.logged_state.swap(instance_state as u8, Ordering::Relaxed);
        if before == instance_state as u8 {
            return;
        }
        let (state, reason) = (instance_state.as_str(), self.broker_failure_reason());
        let reason = reason.as_deref();
        match instance_state {
            InstanceState::Isolated => tracing::warn!(state, reason, "instance state changed"),
            // Without Redis the first attempt has failed before the instance listened.
            InstanceState::Connecting if reason.is_some() => tracing::warn!(state, reason, "instance state changed"),
            // At the start, and when the broker is back, the lease follows within a heartbeat.
            InstanceState::LeaseLost if before == InstanceState::Connected as u8 => {
                tracing::warn!(state, "instance state changed");
            }
            InstanceState::Fenced => tracing::error!(state, "instance state changed"),
            _ => tracing::info!(state, "instance state changed"),
        }
    }

    /// The watchdog, to which the event loops report.
    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Whether an event loop is stuck. Then no request is answered: a frozen process looks the same from outside, and
    /// HAProxy moves its clients to other instances.
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
    fn a_lease_that_ended_in_a_pause_fences_at_the_first_check() {
        let begun = Instant::now();
        let health = health(begun);
        let after = |ms| begun + Duration::from_millis(ms);
        assert_eq!((health.lease(begun), health.fences(begun)), (LeaseStatus::Lost, 0), "there is no lease yet");
        health.set_lease(&held(begun, 5_400));
        assert_eq!(health.lease(after(5_399)), LeaseStatus::Held);
        assert_eq!(health.lease(after(5_400)), LeaseStatus::Lost, "no other process has taken it yet");
        assert_eq!((health.fences(after(5_999)), health.lease(after(5_999))), (0, LeaseStatus::Lost));
        health.set_lease(&held(begun, 7_400));
        assert_eq!(health.lease(after(7_399)), LeaseStatus::Held, "renewed at the last moment");
        assert_eq!(health.fences(after(8_000)), 1);
        health.set_lease(&LeaseState::Fenced);
        assert_eq!(
            (health.fences(after(8_100)), health.lease(after(8_100))),
            (1, LeaseStatus::Fenced),
            "the heartbeat task reports it too"
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
        health.broker_is_up();
        health.advance(Phase::Running);
        assert_eq!(health.instance_state(begun + Duration::from_secs(1)), InstanceState::Connected);
    }

    /// "Not yet" and "no more" are two states.
    #[test]
    fn an_instance_is_ready_from_the_first_round_trip_on() {
        let begun = Instant::now();
        let health = health(begun);
        health.set_lease(&LeaseState::Held { token: Token::from_store("a"), deadline: None, end: None });
        health.advance(Phase::Running);
        let state = || (health.instance_state(begun), health.broker_failure_reason());
        assert_eq!(state(), (InstanceState::Connecting, None));
        for failure in ["WRONGPASS", "WRONGPASS", "refused"] {
            health.broker_is_down(failure);
            assert_eq!(state(), (InstanceState::Connecting, Some(failure.into())));
        }
        health.broker_is_up();
        assert_eq!(state(), (InstanceState::Connected, None));
        health.broker_is_down("gone");
        assert_eq!(state(), (InstanceState::Isolated, Some("gone".into())));
        health.broker_is_up();
        assert_eq!(state(), (InstanceState::Connected, None));
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
