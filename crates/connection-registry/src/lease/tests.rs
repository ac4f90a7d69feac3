//! The lease under literal times: lease 6 s, drift 600 ms, so the deadline is 5.4 s after the request.

use super::*;

fn lease() -> Lease {
    Lease::new(Some(Duration::from_secs(6)), Duration::from_millis(600))
}

/// A clock whose zero is the moment of the test.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(&self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }
}

fn held(clock: &Clock) -> Lease {
    let mut lease = lease();
    lease.granted(Token::from_store("a"), clock.at(0), clock.at(10));
    lease
}

#[test]
fn a_lease_is_counted_from_before_the_asking() {
    let clock = Clock::new();
    let mut lease = lease();
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Starting));
    assert_eq!(lease.ask(), LeaseRequest::Acquire);
    // Sent at 0, answered at 900: the lease is counted from 0.
    lease.granted(Token::from_store("a"), clock.at(0), clock.at(900));
    assert_eq!(lease.deadline(), Some(clock.at(5_400)));
    assert_eq!(lease.held(clock.at(5_399)), Some(Token::from_store("a")));
    assert_eq!(lease.held(clock.at(5_400)), None);
    assert_eq!(lease.ask(), LeaseRequest::Renew(Token::from_store("a")));
}

#[test]
fn a_renewal_moves_the_deadline() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    lease.renewed(clock.at(2_000), clock.at(2_500));
    assert_eq!(lease.deadline(), Some(clock.at(7_400)));
}

#[test]
fn an_unrenewed_lease_is_lost_before_it_ends_in_the_store() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    lease.tick(clock.at(5_399));
    assert!(lease.state().is_held(clock.at(5_399)));
    lease.tick(clock.at(5_400));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Unrenewed));
}

#[test]
fn a_reader_sees_the_deadline_although_the_heartbeat_task_did_not_run() {
    let clock = Clock::new();
    let lease = held(&clock);
    assert!(lease.state().is_held(clock.at(5_399)));
    assert!(!lease.state().is_held(clock.at(5_400)));
}

#[test]
fn an_instance_that_slept_past_its_lease_is_fenced() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    lease.tick(clock.at(6_000));
    assert_eq!(lease.state(), &LeaseState::Fenced);
    // Only a new incarnation ends this state. A renewal that was on its way does not.
    lease.renewed(clock.at(5_000), clock.at(6_001));
    lease.refused(Refusal::Expired, clock.at(6_002));
    assert_eq!(lease.state(), &LeaseState::Fenced);
    lease.start_new_incarnation();
    assert_eq!(lease.ask(), LeaseRequest::Acquire);
}

#[test]
fn a_renewal_answered_only_after_a_freeze_does_not_hide_it() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    // Sent at 2 s. The process is frozen for a minute, with the answer in the socket.
    lease.renewed(clock.at(2_000), clock.at(62_000));
    assert_eq!(lease.state(), &LeaseState::Fenced);
}

#[test]
fn isolated_and_back_with_the_same_lease_or_a_new_one() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    lease.tick(clock.at(5_450));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Unrenewed));
    // The store may still know the token, so a renewal is tried first.
    assert_eq!(lease.ask(), LeaseRequest::Renew(Token::from_store("a")));
    // A renewal of a lease whose deadline has passed again changes nothing.
    lease.renewed(clock.at(100), clock.at(5_500));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Unrenewed));
    lease.refused(Refusal::Expired, clock.at(30_000));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Forgotten));
    assert_eq!(lease.ask(), LeaseRequest::Acquire);
    lease.granted(Token::from_store("b"), clock.at(30_001), clock.at(30_002));
    assert_eq!(lease.held(clock.at(30_003)), Some(Token::from_store("b")));
}

#[test]
fn a_redis_that_failed_over_makes_us_ask_again_and_one_that_gave_the_lease_away_fences_us() {
    let clock = Clock::new();
    let mut lease = held(&clock);
    lease.refused(Refusal::Generation, clock.at(2_000));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Forgotten));
    assert_eq!(lease.ask(), LeaseRequest::Acquire);

    let mut lease = held(&clock);
    lease.refused(Refusal::Taken, clock.at(2_000));
    assert_eq!(lease.state(), &LeaseState::Fenced);
}

#[test]
fn a_name_in_use_is_not_ours() {
    let mut lease = lease();
    lease.busy(Incarnation::new(1, 2));
    assert_eq!(lease.state(), &LeaseState::Lost(Loss::Busy(Incarnation::new(1, 2))));
    assert_eq!(lease.ask(), LeaseRequest::Acquire);
}

#[test]
fn without_redis_the_lease_is_always_held() {
    let clock = Clock::new();
    let mut lease = Lease::new(None, Duration::from_millis(600));
    lease.granted(Token::from_store("a"), clock.at(0), clock.at(0));
    lease.tick(clock.at(1_000_000_000));
    assert!(lease.state().is_held(clock.at(1_000_000_000)));
    assert_eq!(lease.deadline(), None);
}
