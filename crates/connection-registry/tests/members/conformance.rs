//! One suite for every store: the members of a scope, when they join and leave, and the published changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connection_registry::{
    Acquired, Instance, MEMBER_CHANGES_MAX, MemberChange, MemoryStore, PresenceCursor, PresenceReader,
    PresenceTransition, Refusal, Store, StoreError, Timings, Token,
};
use test_support::RedisCluster;
use wire::{Families, Scope, UserId};

use crate::GRACE;
use crate::support::{ANY_NUMBER, PATIENCE, RedisServer, instance, nth_heartbeat, store_at, unhurried};

macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(MemoryStore::new(ANY_NUMBER, Timings { grace: GRACE, ..unhurried() })).await;
            })+
        }
        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let server = RedisServer::start();
                super::$case(server.store(Timings { grace: GRACE, ..unhurried() }, ANY_NUMBER)).await;
            })+
        }
    };
}

conformance!(
    a_member_of_two_instances_joins_once_and_leaves_once,
    a_user_who_comes_back_within_the_grace_has_not_left,
    a_goodbye_gives_the_grace_and_a_new_incarnation_takes_over,
    a_stale_token_changes_nothing,
    what_is_written_anew_has_not_left_and_the_rest_has,
    a_full_batch_is_one_step_and_is_listed_in_part,
    a_waiting_reader_is_woken_and_nothing_is_left_out,
    scopes_are_apart,
);

/// All keys are on one node, also those whose names the functions build themselves.
#[tokio::test]
async fn a_cluster_is_no_other() {
    let cluster = RedisCluster::start();
    let store = || store_at(&cluster.url(), Timings { grace: GRACE, ..unhurried() }, ANY_NUMBER);
    a_member_of_two_instances_joins_once_and_leaves_once(store()).await;
    let (two, token) = (instance("gw-2", 1), granted(&store(), &instance("gw-2", 1)).await);
    assert_eq!(store().reap(&two, &token, &instance("gw-9", 1), 0).await, Ok(None));
    a_waiting_reader_is_woken_and_nothing_is_left_out(store()).await;
}

fn room(id: u32) -> Scope {
    Families::default().parse_scope(&format!("acme/collection:{id}")).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn enter(name: &str) -> MemberChange {
    MemberChange::Enter(room(1), user(name), Some(Arc::new(format!(r#"{{"name": "{name} A"}}"#))))
}

fn exit(name: &str) -> MemberChange {
    MemberChange::Exit(room(1), user(name))
}

async fn granted(store: &(impl Store + PresenceReader), instance: &Instance) -> Token {
    match store.acquire(instance, nth_heartbeat(0)).await.unwrap() {
        Acquired::Granted { token, .. } => token,
        Acquired::Busy { holder } => panic!("held by {holder}"),
    }
}

/// Members of the first room, each with the number of its instances.
async fn members(store: &(impl Store + PresenceReader)) -> Vec<(String, usize)> {
    let list = store.list_members(&[room(1)], 1_000).await.unwrap().scopes.remove(0);
    assert_eq!(list.count, list.members.len());
    let mut members: Vec<_> =
        list.members.iter().map(|member| (member.user.to_string(), member.instances.len())).collect();
    members.sort();
    members
}

fn of(members: &[(&str, usize)]) -> Vec<(String, usize)> {
    members.iter().map(|(name, instances)| ((*name).to_owned(), *instances)).collect()
}

/// All changes published since the beginning, as "+alice 1" and "-bob 0": with the number of members after each.
async fn reported(store: &(impl Store + PresenceReader)) -> Vec<String> {
    if store.list_members(&[], 0).await.unwrap().cursor == PresenceCursor::default() {
        return Vec::new(); // Nothing was published, so do not wait.
    }
    let (mut reported, mut last) = (Vec::new(), PresenceCursor::default());
    for batch in store.next_presence_batches(PresenceCursor::default()).await.unwrap() {
        assert_eq!(batch.before, last);
        assert!(batch.cursor > last);
        last = batch.cursor;
        for event in batch.changes {
            let sign = if event.transition == PresenceTransition::Left { '-' } else { '+' };
            reported.push(format!("{sign}{} {}", event.user, event.count));
        }
    }
    reported
}

/// Removes members that are due, until this number of changes has been published.
async fn until_reported(
    store: &(impl Store + PresenceReader),
    by: &Instance,
    token: &Token,
    count: usize,
) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let due = store.write_members(by, token, &[]).await.unwrap();
        let reported = reported(store).await;
        if reported.len() >= count {
            assert_eq!(due, None);
            return reported;
        }
        assert!(Instant::now() < deadline, "{reported:?}");
        tokio::time::sleep(due.expect("somebody is due")).await;
    }
}

async fn a_member_of_two_instances_joins_once_and_leaves_once(store: impl Store + PresenceReader) {
    let (one, two) = (instance("gw-1", 1), instance("gw-2", 1));
    let (first, second) = (granted(&store, &one).await, granted(&store, &two).await);
    assert_eq!(store.write_members(&one, &first, &[enter("alice")]).await, Ok(None));
    store.write_members(&two, &second, &[enter("alice"), enter("alice")]).await.unwrap();
    assert_eq!(members(&store).await, of(&[("alice", 2)]));
    assert_eq!(store.write_members(&one, &first, &[exit("alice")]).await, Ok(None));
    store.write_members(&one, &first, &[exit("alice")]).await.unwrap();
    assert_eq!(members(&store).await, of(&[("alice", 1)]));
    let due = store.write_members(&two, &second, &[exit("alice")]).await.unwrap().expect("the grace runs");
    assert!(due <= GRACE, "{due:?}");
    assert_eq!(members(&store).await, of(&[("alice", 0)]));
    assert_eq!(until_reported(&store, &one, &first, 2).await, ["+alice 1", "-alice 0"]);
    assert_eq!(members(&store).await, []);
}

async fn a_user_who_comes_back_within_the_grace_has_not_left(store: impl Store + PresenceReader) {
    let (one, two) = (instance("gw-1", 1), instance("gw-2", 1));
    let (first, second) = (granted(&store, &one).await, granted(&store, &two).await);
    store.write_members(&one, &first, &[enter("alice"), enter("bob")]).await.unwrap();
    let since = store.list_members(&[room(1)], 9).await.unwrap().scopes[0].members[0].since;
    store.write_members(&one, &first, &[exit("alice"), exit("bob")]).await.unwrap();
    store.write_members(&two, &second, &[enter("alice")]).await.unwrap();
    assert_eq!(until_reported(&store, &one, &first, 3).await, ["+alice 1", "+bob 2", "-bob 1"]);
    let list = store.list_members(&[room(1)], 9).await.unwrap().scopes.remove(0);
    assert_eq!((list.members[0].user.as_str(), list.members[0].since), ("alice", since));
    assert_eq!(list.members[0].info.as_ref().map(|info| info.as_str()), Some(r#"{"name": "alice A"}"#));
}

async fn a_goodbye_gives_the_grace_and_a_new_incarnation_takes_over(store: impl Store + PresenceReader) {
    let (one, two) = (instance("gw-1", 1), instance("gw-2", 1));
    let (first, second) = (granted(&store, &one).await, granted(&store, &two).await);
    store.write_members(&one, &first, &[enter("alice"), enter("bob")]).await.unwrap();
    store.release(&one, &first).await.unwrap();
    assert_eq!(members(&store).await.len(), 2);
    let again = instance("gw-1", 2);
    let third = granted(&store, &again).await;
    store.write_members(&again, &third, &[enter("alice")]).await.unwrap();
    assert_eq!(until_reported(&store, &two, &second, 3).await, ["+alice 1", "+bob 2", "-bob 1"]);
    assert_eq!(members(&store).await, of(&[("alice", 1)]));
}

async fn a_stale_token_changes_nothing(store: impl Store + PresenceReader) {
    let one = instance("gw-1", 1);
    let stale = granted(&store, &one).await;
    let current = granted(&store, &one).await;
    store.write_members(&one, &current, &[enter("alice")]).await.unwrap();
    let refused = Err(StoreError::Refused(Refusal::Taken));
    assert_eq!(store.write_members(&one, &stale, &[exit("alice"), enter("bob")]).await.map(drop), refused);
    assert_eq!(store.rewrite_members(&one, &stale, Duration::ZERO).await, refused);
    assert_eq!(store.write_members(&one, &current, &[]).await, Ok(None));
    assert_eq!((members(&store).await, reported(&store).await), (of(&[("alice", 1)]), vec!["+alice 1".to_owned()]));
}

async fn what_is_written_anew_has_not_left_and_the_rest_has(store: impl Store + PresenceReader) {
    let one = instance("gw-1", 1);
    let token = granted(&store, &one).await;
    store.write_members(&one, &token, &[enter("alice"), enter("bob")]).await.unwrap();
    store.rewrite_members(&one, &token, GRACE).await.unwrap();
    let due = store.write_members(&one, &token, &[enter("alice")]).await.unwrap();
    assert!(due.is_some_and(|due| due <= GRACE), "{due:?}");
    assert_eq!(until_reported(&store, &one, &token, 3).await, ["+alice 1", "+bob 2", "-bob 1"]);
    assert_eq!(members(&store).await, of(&[("alice", 1)]));
}

async fn a_full_batch_is_one_step_and_is_listed_in_part(store: impl Store + PresenceReader) {
    let one = instance("gw-1", 1);
    let token = granted(&store, &one).await;
    let batch: Vec<_> = (0..MEMBER_CHANGES_MAX).map(|n| enter(&format!("u{n}"))).collect();
    store.write_members(&one, &token, &batch).await.unwrap();
    let snapshot = store.list_members(&[room(1), room(2)], 10).await.unwrap();
    assert_eq!((snapshot.scopes[0].count, snapshot.scopes[0].members.len()), (MEMBER_CHANGES_MAX, 10));
    assert_eq!((snapshot.scopes[1].count, snapshot.scopes[1].members.len()), (0, 0));
    let batches = store.next_presence_batches(PresenceCursor::default()).await.unwrap();
    assert_eq!((batches.len(), batches[0].changes.len(), batches[0].cursor), (1, MEMBER_CHANGES_MAX, snapshot.cursor));
}

async fn a_waiting_reader_is_woken_and_nothing_is_left_out(store: impl Store + PresenceReader) {
    let one = instance("gw-1", 1);
    let token = granted(&store, &one).await;
    let mut cursor = store.list_members(&[], 0).await.unwrap().cursor;
    for name in ["alice", "bob", "carol"] {
        let change = [enter(name)];
        let write = async {
            tokio::time::sleep(Duration::from_millis(30)).await; // so that the reader waits
            store.write_members(&one, &token, &change).await.unwrap();
        };
        let (batches, ()) = tokio::join!(store.next_presence_batches(cursor), write);
        let [batch] = &batches.unwrap()[..] else { panic!("one step, one entry") };
        assert_eq!((batch.before, batch.changes[0].user.as_str()), (cursor, name));
        cursor = batch.cursor;
    }
    assert_eq!(store.list_members(&[], 0).await.unwrap().cursor, cursor);
}

async fn scopes_are_apart(store: impl Store + PresenceReader) {
    let one = instance("gw-1", 1);
    let token = granted(&store, &one).await;
    let elsewhere = MemberChange::Enter(room(2), user("alice"), None);
    store.write_members(&one, &token, &[enter("alice"), elsewhere]).await.unwrap();
    store.write_members(&one, &token, &[exit("alice")]).await.unwrap();
    until_reported(&store, &one, &token, 3).await;
    let snapshot = store.list_members(&[room(1), room(2)], 9).await.unwrap();
    assert_eq!(
        (snapshot.scopes[0].count, snapshot.scopes[1].count, &snapshot.scopes[1].members[0].info),
        (0, 1, &None)
    );
}
