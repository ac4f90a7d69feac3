//! PURE. How fast connections are admitted: a token bucket with a short queue before it.
//!
//! When an instance fails, its clients reconnect to the others at the same time. Admitting them costs CPU that
//! connected clients need, and history that Redis has to read. So connections above the rate wait for a short time, and
//! a connection that would wait too long is told when to return. A waiting client costs only its socket.

use std::cell::Cell;
use std::time::Duration;

use crate::host::rate::RateLimit;

/// How long a connection may wait for its turn. With the default rate that is a queue of 3,000, which leaves room among
/// the requests in progress for other requests such as health checks.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Admits connections at a rate (the generic cell rate algorithm, ITU-T I.371). Used by one thread.
#[derive(Debug)]
pub(crate) struct Admission {
    /// If absent, every connection is admitted at once.
    limit: Option<RateLimit>,
    /// When the connections admitted so far would have been due at the long-run rate.
    due_us: Cell<u64>,
}

/// The decision about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionDecision {
    /// It is admitted after this wait.
    After(Duration),
    /// Too many connections wait already. This one would have to wait for this long.
    Full(Duration),
}

impl Admission {
    /// Admits `per_second` connections in the long run and as a burst; 0 means no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let limit = (per_second > 0).then(|| RateLimit::new(per_second, per_second));
        Self { limit, due_us: Cell::new(0) }
    }

    /// One more connection, at `now_us` of any clock that never goes back.
    pub(crate) fn enter(&self, now_us: u64) -> AdmissionDecision {
        let Some(limit) = self.limit else { return AdmissionDecision::After(Duration::ZERO) };
        let due_us = self.due_us.get().max(now_us) + limit.cost_us;
        let wait = Duration::from_micros((due_us - now_us).saturating_sub(limit.burst_us));
        if wait > WAIT_MAX {
            return AdmissionDecision::Full(wait);
        }
        self.due_us.set(due_us);
        AdmissionDecision::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_burst_comes_in_then_a_queue_at_the_rate_then_nobody() {
        let admission = Admission::new(100);
        let decisions: Vec<AdmissionDecision> = (0..1_000).map(|_| admission.enter(SECOND)).collect();
        let at_once =
            decisions.iter().filter(|decision| **decision == AdmissionDecision::After(Duration::ZERO)).count();
        assert_eq!(at_once, 100);
        let waits: Vec<Duration> = decisions
            .iter()
            .filter_map(|decision| if let AdmissionDecision::After(wait) = decision { Some(*wait) } else { None })
            .collect();
        assert_eq!(waits.len(), 200, "a burst, and a second's worth of waiting");
        assert!(waits.is_sorted() && waits[150] - waits[149] == Duration::from_millis(10));
        let AdmissionDecision::Full(wait) = decisions[999] else { panic!("{:?}", decisions[999]) };
        assert!(
            wait > WAIT_MAX && wait < WAIT_MAX + Duration::from_millis(20),
            "who is refused holds no place: {wait:?}"
        );
        // A second later one second's worth of places is free.
        let later = (0..1_000).filter(|_| matches!(admission.enter(2 * SECOND), AdmissionDecision::After(_))).count();
        assert_eq!(later, 100);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let admission = Admission::new(0);
        assert!((0..100_000).all(|_| admission.enter(7) == AdmissionDecision::After(Duration::ZERO)));
    }
}
