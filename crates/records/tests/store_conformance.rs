//! The contract of [`Store`]: one suite for every store.

mod support;

use std::time::Duration;

use records::{Body, Bounds, MemoryStore, RedisStore, Store};
use support::{BOUNDS, acme, dead_letter, redis_store, tenant};
use test_support::RedisServer;
use wire::{Families, Position, Scope, UserId};

trait Bench {
    type Store: Store;
    /// A store with the records of this bench only.
    fn store(&self, bounds: Bounds) -> Self::Store;
}

struct MemoryBench;

impl Bench for MemoryBench {
    type Store = MemoryStore;

    fn store(&self, bounds: Bounds) -> MemoryStore {
        MemoryStore::new(bounds)
    }
}

impl Bench for RedisServer {
    type Store = RedisStore;

    fn store(&self, bounds: Bounds) -> RedisStore {
        redis_store(self, bounds)
    }
}

macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::MemoryBench).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                super::$case(test_support::RedisServer::start(&[])).await;
            })+
        }
    };
}

conformance!(
    a_dead_letter_comes_back_as_it_was_kept,
    a_dedup_key_is_kept_once_even_after_its_dead_letter_was_removed,
    tenants_do_not_see_each_other,
    lists_are_newest_first_and_continue_where_they_ended,
    the_oldest_are_removed_when_there_are_too_many,
    dead_letters_expire,
    removing_counts_the_existing_ones,
    a_receipt_never_decreases,
    scope_receipts_are_of_the_users_asked_for_or_of_the_oldest,
);

async fn a_dead_letter_comes_back_as_it_was_kept(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    let kept = dead_letter("acme", 1);
    assert_eq!(store.keep(&kept).await, Ok(true));
    let mut redacted = dead_letter("acme", 2);
    (redacted.body, redacted.user, redacted.position) = (Body::Redacted, None, None);
    assert_eq!(store.keep(&redacted).await, Ok(true));
    let mut cut = dead_letter("acme", 3);
    cut.body = Body::TooBig;
    assert_eq!(store.keep(&cut).await, Ok(true));

    let dead_letters = store.dead_letters(&acme(), None, 10).await.unwrap();
    let [third, second, first] = &dead_letters[..] else { panic!("three were kept: {dead_letters:?}") };
    assert_eq!((&*first.reason, &*first.instance, &*first.channel), ("poison", "gw-1", "collection:1:ops"));
    assert_eq!((first.user.as_deref(), first.position.as_deref()), (Some("alice"), Some("7-1")));
    assert_eq!((first.time, &first.detail, first.size), (kept.time, &kept.detail, kept.size));
    assert_eq!(first.body, Body::Message(b"\x00no message \xff".to_vec().into()), "byte by byte");
    assert_eq!((&second.body, &second.user, &second.position), (&Body::Redacted, &None, &None));
    assert_eq!((&third.body, third.size), (&Body::TooBig, cut.size));
    assert_eq!(store.dead_letter(&acme(), second.id).await, Ok(Some(second.clone())));
}

async fn a_dedup_key_is_kept_once_even_after_its_dead_letter_was_removed(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    assert_eq!(store.keep(&dead_letter("acme", 1)).await, Ok(true));
    assert_eq!(store.keep(&dead_letter("acme", 1)).await, Ok(false));
    let dead_letters = store.dead_letters(&acme(), None, 10).await.unwrap();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(store.remove(&acme(), &[dead_letters[0].id]).await, Ok(1));
    assert_eq!(store.keep(&dead_letter("acme", 1)).await, Ok(false));
    assert_eq!(store.dead_letters(&acme(), None, 10).await, Ok(vec![]));
}

async fn tenants_do_not_see_each_other(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    assert_eq!(store.keep(&dead_letter("acme", 1)).await, Ok(true));
    assert_eq!(store.keep(&dead_letter("umbrella", 1)).await, Ok(true), "the same key of another tenant is another");
    let id = store.dead_letters(&acme(), None, 10).await.unwrap()[0].id;
    let theirs = store.dead_letters(&tenant("umbrella"), None, 10).await.unwrap();
    assert_eq!(theirs.len(), 1);
    if theirs[0].id != id {
        assert_eq!(store.dead_letter(&tenant("umbrella"), id).await, Ok(None));
        assert_eq!(store.remove(&tenant("umbrella"), &[id]).await, Ok(0));
    }
    assert_eq!(store.dead_letters(&tenant("nobody"), None, 10).await, Ok(vec![]));
}

async fn lists_are_newest_first_and_continue_where_they_ended(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    for number in 1..=5 {
        store.keep(&dead_letter("acme", number)).await.unwrap();
    }
    let (mut positions, mut before) = (Vec::new(), None);
    loop {
        let page = store.dead_letters(&acme(), before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        positions.extend(page.into_iter().filter_map(|dead_letter| dead_letter.position));
    }
    assert_eq!(positions, ["7-5", "7-4", "7-3", "7-2", "7-1"]);
}

async fn the_oldest_are_removed_when_there_are_too_many(bench: impl Bench) {
    let store = bench.store(Bounds { entries_max: 3, ..BOUNDS });
    for number in 1..=5 {
        store.keep(&dead_letter("acme", number)).await.unwrap();
    }
    let dead_letters = store.dead_letters(&acme(), None, 10).await.unwrap();
    let positions: Vec<_> = dead_letters.into_iter().filter_map(|dead_letter| dead_letter.position).collect();
    assert_eq!(positions, ["7-5", "7-4", "7-3"]);
}

async fn dead_letters_expire(bench: impl Bench) {
    let store = bench.store(Bounds { ttl: Duration::from_secs(1), ..BOUNDS });
    store.keep(&dead_letter("acme", 1)).await.unwrap();
    let first = store.dead_letters(&acme(), None, 10).await.unwrap().first().map(|dead_letter| dead_letter.id);
    // The next dead letter with the same key is stored when the first one has expired, and then the first one is gone.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !store.keep(&dead_letter("acme", 1)).await.unwrap() {
        assert!(std::time::Instant::now() < deadline, "the key is never forgotten");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dead_letters = store.dead_letters(&acme(), None, 10).await.unwrap();
    assert!(
        dead_letters.len() <= 1 && dead_letters.first().map(|dead_letter| dead_letter.id) != first,
        "{dead_letters:?}"
    );
}

async fn removing_counts_the_existing_ones(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    for number in 1..=3 {
        store.keep(&dead_letter("acme", number)).await.unwrap();
    }
    let ids: Vec<_> =
        store.dead_letters(&acme(), None, 10).await.unwrap().iter().map(|dead_letter| dead_letter.id).collect();
    assert_eq!(store.remove(&acme(), &[]).await, Ok(0));
    assert_eq!(store.remove(&acme(), &ids[..2]).await, Ok(2));
    assert_eq!(store.remove(&acme(), &ids).await, Ok(1));
}

fn scope(text: &str) -> Scope {
    Families::default().parse_scope(text).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

async fn acknowledged(store: &impl Store, scope_text: &str) -> Vec<(String, Position)> {
    let scope_receipts = store.scope_receipts(&scope(scope_text), &[], 100).await.unwrap();
    let mut users: Vec<_> = scope_receipts.users.into_iter().map(|(user, at, _)| (user.to_string(), at)).collect();
    users.sort();
    users
}

async fn a_receipt_never_decreases(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    let place = "acme/collection:1";
    let write = async |receipts: &[(&str, u64, u64)]| {
        let users = receipts.iter().map(|(name, generation, offset)| (user(name), Position::new(*generation, *offset)));
        store.write_receipts(&[(scope(place), users.collect())]).await.unwrap()
    };
    assert_eq!(write(&[("alice", 9, 5), ("bob", 9, 1)]).await, 2);
    // A late write, and numbers that would compare the other way round as texts.
    assert_eq!(write(&[("alice", 9, 4), ("alice", 9, 5), ("bob", 9, 10)]).await, 1);
    assert_eq!(write(&[("alice", 10, 1), ("bob", 9, 9)]).await, 1);
    assert_eq!(write(&[("alice", 9, 1_000)]).await, 0, "a later generation is further, whatever the offset");
    let expected = [("alice".to_owned(), Position::new(10, 1)), ("bob".to_owned(), Position::new(9, 10))];
    assert_eq!(acknowledged(&store, place).await, expected);
    // Several scopes in one write. The same user name in another tenant is another user.
    let batch = ["acme/collection:2", "umbrella/collection:1"]
        .map(|text| (scope(text), vec![(user("alice"), Position::new(1, 1))]));
    assert_eq!(store.write_receipts(&batch).await, Ok(2));
    assert_eq!(acknowledged(&store, place).await, expected);
    assert_eq!(acknowledged(&store, "umbrella/collection:1").await, [("alice".to_owned(), Position::new(1, 1))]);
}

async fn scope_receipts_are_of_the_users_asked_for_or_of_the_oldest(bench: impl Bench) {
    let store = bench.store(BOUNDS);
    let place = scope("acme/collection:1");
    for name in ["first", "second", "third"] {
        store.write_receipts(&[(place.clone(), vec![(user(name), Position::new(7, 1))])]).await.unwrap();
        // Receipts of the same millisecond have the same age.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.write_receipts(&[(place.clone(), vec![(user("first"), Position::new(7, 2))])]).await.unwrap();
    let names = async |users: &[UserId], most| {
        let scope_receipts = store.scope_receipts(&place, users, most).await.unwrap();
        scope_receipts.users.iter().map(|(user, ..)| user.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[], 2).await, ["second", "third"]);
    assert_eq!(names(&[user("first"), user("nobody")], 100).await, ["first"]);
    let scope_receipts = store.scope_receipts(&place, &[user("first")], 1).await.unwrap();
    assert_eq!((scope_receipts.top, scope_receipts.users[0].1), (None, Position::new(7, 2)));
    assert!(scope_receipts.users[0].2.0 > 1_700_000_000_000, "when it moved, by the store's clock");
}

/// A dead letter that is rejected permanently must not block later ones, and its key must not count as stored.
#[tokio::test]
async fn a_dead_letter_that_redis_rejects_is_not_known_and_not_tried_for_ever() {
    let server = RedisServer::start(&[]);
    let wrong = support::redis_store(&server, Bounds { entries_max: 0, ..BOUNDS }).keep(&dead_letter("acme", 1)).await;
    let refused = wrong.unwrap_err();
    assert!(!refused.may_retry() && refused.to_string().contains("ERR arguments are"), "{refused}");

    let store = support::redis_store(&server, BOUNDS);
    let key = keyspace::Keyspace::default().dead_letters(&acme());
    server.command::<()>(&["SET", &key, "somebody else's"]);
    let refused = store.keep(&dead_letter("acme", 1)).await.unwrap_err();
    assert!(!refused.may_retry() && refused.to_string().contains("WRONGTYPE"), "{refused}");
    server.command::<()>(&["DEL", &key]);
    assert_eq!(store.keep(&dead_letter("acme", 1)).await, Ok(true));

    let receipts = keyspace::Keyspace::default().receipts(&scope("acme/collection:1"));
    server.command::<()>(&["SET", &receipts, "somebody else's"]);
    let batch = [(scope("acme/collection:1"), vec![(user("alice"), Position::new(7, 1))])];
    assert_eq!(store.write_receipts(&batch).await, Ok(1), "the key of another program is removed");

    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let passing = store.keep(&dead_letter("acme", 2)).await.unwrap_err();
    assert!(passing.may_retry() && passing.to_string().contains("NOREPLICAS"), "{passing}");
}
