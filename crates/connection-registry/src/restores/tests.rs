//! The queues of records and lookups, under literal times.

use std::time::Duration;

use wire::{SessionId, TenantId, Timestamp, UserId};

use super::lookup::{ASK_AGAIN_AFTER, HANDED_OVER_WITHIN};
use super::*;
use crate::registration::RegistrationNumber;
use crate::session_record::SessionRecord;

fn ask(awaited: bool) -> RestoreRequest {
    static ARRIVAL: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let (tenant, user) = (TenantId::default(), UserId::parse("alice").unwrap());
    let session = SessionId::from_random(1);
    let number = RegistrationNumber::FIRST;
    RestoreRequest { session, tenant, user, since: Timestamp(1), arrival: *ARRIVAL, number, shard: 0, awaited }
}

fn left(n: u128, channels: usize) -> ClosedSessionRecord {
    let RestoreRequest { tenant, user, since, arrival, .. } = ask(false);
    let channels = vec![("collection:42".into(), None); channels];
    let record = SessionRecord { channels, exact: false };
    ClosedSessionRecord { session: SessionId::from_random(n), tenant, user, since, arrival, record }
}

fn asked(restores: &Restores, now: Instant) -> RecordLookup {
    restores.take_due(1, now).pop().expect("it is due")
}

#[test]
fn an_unknown_session_is_answered_at_once_and_one_that_is_handed_over_within_its_time() {
    let (restores, now) = (Restores::default(), Instant::now());
    restores.ask(ask(false), now);
    let now = now + Duration::from_secs(1);
    let lookup = asked(&restores, now);
    assert_eq!(restores.settle(lookup, LookupResult::Nothing, now), Some((ask(false), RestoreResult::Nothing)));

    restores.ask(ask(false), now);
    let lookup = asked(&restores, now);
    assert_eq!(restores.settle(lookup, LookupResult::Awaited, now), None);
    assert_eq!(restores.take_due(1, now), [], "not again at once");
    let later = now + ASK_AGAIN_AFTER;
    let lookup = asked(&restores, later);
    // A row may be removed a moment before the record is seen.
    assert_eq!(restores.settle(lookup, LookupResult::Nothing, later), None);
    let late = later + HANDED_OVER_WITHIN;
    let lookup = asked(&restores, late);
    assert_eq!(restores.settle(lookup, LookupResult::Nothing, late).unwrap().1, RestoreResult::Nothing);
    assert_eq!(restores.next_due(), None);
}

#[test]
fn records_that_wait_are_bounded_and_keep_their_order() {
    let restores = Restores::default();
    (0..100).for_each(|n| restores.leave(left(n, 1)));
    let first = restores.take_left(10, usize::MAX);
    assert_eq!(
        first.iter().map(|left| left.session).collect::<Vec<_>>(),
        (0..10).map(SessionId::from_random).collect::<Vec<_>>()
    );
    restores.put_back(first.clone());
    assert_eq!(restores.take_left(10, 1), first[..1], "one at least");
    assert_eq!(restores.take_left(9, usize::MAX), first[1..]);
    let rest = restores.take_left(1_000, usize::MAX);
    assert_eq!((rest.len(), restores.waiting().left_bytes), (90, 0));
    (0..10_000).for_each(|n| restores.leave(left(n, 256)));
    assert!(restores.waiting().left_bytes <= LEFT_BYTES_MAX);
    assert!(restores.take_left(10_000, usize::MAX).len() < 10_000);
}
