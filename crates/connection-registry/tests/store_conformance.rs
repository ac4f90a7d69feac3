//! One suite for every store: leases, tokens, rows and session records.

mod support;

use std::time::{Duration, Instant};

use connection_registry::{
    Acquired, CloseReason, ClosedSessionRecord, ConnectionLimits, ConnectionRow, Directory, DirectoryReply, Duty,
    Heartbeat, Incarnation, Instance, InstanceCommand, Load, LookupResult, MemoryStore, OnExcess, ROW_CHANGES_MAX,
    RecordLookup, RedisStore, Refusal, RestoreRequest, RowChange, SessionClose, SessionRecord, Store, StoreError,
    Timings, Token,
};
use keyspace::Keyspace;
use support::{ANY_NUMBER, RedisServer, command, instance, nth_heartbeat, row, unhurried};
use wire::{Position, SessionId, Timestamp};

/// A store, and direct access to its data.
trait Bench {
    type Store: Store;
    fn store(&self) -> &Self::Store;
    async fn sessions(&self, instance: &Instance) -> Vec<SessionId>;
}

impl Bench for MemoryStore {
    type Store = Self;

    fn store(&self) -> &Self {
        self
    }

    async fn sessions(&self, instance: &Instance) -> Vec<SessionId> {
        MemoryStore::sessions(self, &instance.id, instance.incarnation)
    }
}

struct RedisBench {
    server: RedisServer,
    store: RedisStore,
}

impl RedisBench {
    async fn start(limits: ConnectionLimits) -> Self {
        let server = RedisServer::start();
        let store = server.store(unhurried(), limits);
        Self { server, store }
    }
}

impl Bench for RedisBench {
    type Store = RedisStore;

    fn store(&self) -> &RedisStore {
        &self.store
    }

    async fn sessions(&self, instance: &Instance) -> Vec<SessionId> {
        let key = Keyspace::default().rows(&instance.id, instance.incarnation);
        let ids: Vec<String> = command(&mut self.server.connection().await, &["HKEYS", &key]).await;
        ids.iter().map(|id| SessionId::parse(id).expect("rows are keyed by session id")).collect()
    }
}

macro_rules! conformance {
    ($($case:ident($limits:expr)),+ $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(MemoryStore::new($limits, unhurried())).await;
            })+
        }
        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(RedisBench::start($limits).await).await;
            })+
        }
    };
}

conformance!(
    one_incarnation_holds_the_lease(ANY_NUMBER),
    a_released_lease_leaves_nothing(ANY_NUMBER),
    an_incarnation_that_asks_again_gets_a_new_token(ANY_NUMBER),
    a_stale_token_changes_nothing(ANY_NUMBER),
    rows_are_counted_replaced_and_removed(ANY_NUMBER),
    a_full_batch_fits(ANY_NUMBER),
    the_one_before_is_named_and_its_rows_can_be_deleted(ANY_NUMBER),
    peers_see_every_heartbeat(ANY_NUMBER),
    the_new_one_is_refused_when_its_user_has_enough(TWO_EACH),
    the_oldest_goes_when_its_user_has_one_too_many(TWO_NEWEST),
    a_tenant_has_no_more_than_it_may(THREE_OF_A_TENANT),
    a_session_that_returns_elsewhere_is_one_connection(TWO_EACH),
    the_dead_are_not_counted(TWO_EACH),
    a_command_wakes_its_instance(TWO_EACH),
    of_two_that_may_be_the_newer_one_the_one_written_later_stays(ANY_NUMBER),
    a_record_is_for_one_taker_and_its_owner(ANY_NUMBER),
    the_newest_connection_has_the_record(ANY_NUMBER),
    a_connection_that_took_a_record_leaves_its_own_whatever_its_date(ANY_NUMBER),
    a_session_that_is_connected_is_asked_to_end(ANY_NUMBER),
    an_instances_own_rows_end_nobody(ANY_NUMBER),
);

const TWO_EACH: ConnectionLimits = ConnectionLimits { per_user_max: 2, per_tenant_max: 0, on_excess: OnExcess::Reject };
const TWO_NEWEST: ConnectionLimits = ConnectionLimits { on_excess: OnExcess::CloseOldest, ..TWO_EACH };
const THREE_OF_A_TENANT: ConnectionLimits = ConnectionLimits { per_user_max: 0, per_tenant_max: 3, ..TWO_EACH };

/// The answer with this number of rows and without commands.
fn listed(rows: usize) -> Result<DirectoryReply, StoreError> {
    Ok(DirectoryReply { rows, commands: Vec::new() })
}

/// The answer to a renewal, without its time.
async fn renew(
    store: &impl Store,
    instance: &Instance,
    token: &Token,
    nth_heartbeat: Heartbeat,
) -> Result<DirectoryReply, StoreError> {
    store.renew(instance, token, nth_heartbeat, nth_heartbeat.number - 1).await.map(|renewed| renewed.listed)
}

async fn granted(store: &impl Store, instance: &Instance) -> Token {
    match store.acquire(instance, nth_heartbeat(0)).await.unwrap() {
        Acquired::Granted { token, .. } => token,
        Acquired::Busy { holder } => panic!("held by {holder}"),
    }
}

fn session(number: u128) -> SessionId {
    SessionId::from_random(number)
}

/// A row whose time of arrival grows with its number.
fn put(number: u128) -> RowChange {
    put_for("alice", number)
}

async fn one_incarnation_holds_the_lease(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-1", 2));
    let token = granted(store, &first).await;
    assert_eq!(store.acquire(&second, nth_heartbeat(0)).await, Ok(Acquired::Busy { holder: first.incarnation }));
    // Another instance has its own lease.
    granted(store, &instance("gw-2", 3)).await;
    assert_eq!(renew(store, &first, &token, nth_heartbeat(1)).await, listed(0));
}

async fn a_released_lease_leaves_nothing(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    assert_eq!(store.release(&first, &token).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, []);
    assert_eq!(store.peers().await, Ok(vec![]));
    assert_eq!(renew(store, &first, &token, nth_heartbeat(2)).await, Err(StoreError::Refused(Refusal::Expired)));
    assert_ne!(granted(store, &instance("gw-1", 2)).await, token);
}

async fn an_incarnation_that_asks_again_gets_a_new_token(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let lost_on_the_way = granted(store, &first).await;
    let token = granted(store, &first).await;
    assert_ne!(lost_on_the_way, token);
    assert_eq!(
        renew(store, &first, &lost_on_the_way, nth_heartbeat(1)).await,
        Err(StoreError::Refused(Refusal::Taken))
    );
    assert_eq!(renew(store, &first, &token, nth_heartbeat(1)).await, listed(0));
}

/// After another incarnation has acquired the lease, calls of the first one change nothing, however late they arrive.
async fn a_stale_token_changes_nothing(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-1", 2));
    let stale = granted(store, &first).await;
    store.release(&first, &stale).await.unwrap();
    let token = granted(store, &second).await;
    store.write_rows(&second, &token, &[put(1)]).await.unwrap();

    let refused = StoreError::Refused(Refusal::Taken);
    assert_eq!(renew(store, &first, &stale, nth_heartbeat(9)).await, Err(refused.clone()));
    assert_eq!(store.write_rows(&first, &stale, &[put(2)]).await, Err(refused.clone()));
    assert_eq!(store.write_rows(&second, &stale, &[RowChange::Remove(session(1))]).await, Err(refused.clone()));
    assert_eq!(store.delete_rows(&second, &stale, second.incarnation).await, Err(refused.clone()));
    assert_eq!(store.release(&second, &stale).await, Err(refused));

    assert_eq!(bench.sessions(&first).await, []);
    assert_eq!(bench.sessions(&second).await, [session(1)]);
    assert_eq!(renew(store, &second, &token, nth_heartbeat(1)).await, listed(1));
    let peers = store.peers().await.unwrap();
    assert_eq!(peers.iter().map(|heartbeat| &heartbeat.instance).collect::<Vec<_>>(), [&second]);
}

async fn rows_are_counted_replaced_and_removed(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    assert_eq!(store.write_rows(&first, &token, &[put(1), put(2)]).await, listed(2));
    let changes = [RowChange::Remove(session(1)), put(2), put(3), RowChange::Remove(session(4))];
    assert_eq!(store.write_rows(&first, &token, &changes).await, listed(2));
    assert_eq!(renew(store, &first, &token, nth_heartbeat(1)).await, listed(2));
    let mut sessions = bench.sessions(&first).await;
    sessions.sort_by_key(SessionId::to_string);
    assert_eq!(sessions, [session(2), session(3)]);
    assert_eq!(store.write_rows(&first, &token, &[2, 3].map(|n| RowChange::Remove(session(n)))).await, listed(0));
    assert_eq!(renew(store, &first, &token, nth_heartbeat(2)).await, listed(0));
}

async fn a_full_batch_fits(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    let puts: Vec<RowChange> = (0..ROW_CHANGES_MAX as u128).map(put).collect();
    assert_eq!(store.write_rows(&first, &token, &puts).await, listed(ROW_CHANGES_MAX));
    let removals: Vec<RowChange> = (0..ROW_CHANGES_MAX as u128).map(|n| RowChange::Remove(session(n))).collect();
    assert_eq!(store.write_rows(&first, &token, &removals).await, listed(0));
}

async fn the_one_before_is_named_and_its_rows_can_be_deleted(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let asked = store.acquire(&first, nth_heartbeat(0)).await.unwrap();
    let Acquired::Granted { token, before: None, .. } = asked else { panic!("nobody was before: {asked:?}") };
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();

    // The same incarnation loses its lease and gets another one, as after an isolation.
    let asked = store.acquire(&first, nth_heartbeat(1)).await.unwrap();
    let Acquired::Granted { token, before, .. } = asked else { panic!("ours already: {asked:?}") };
    assert_eq!(before, Some(first.incarnation));
    assert_eq!(bench.sessions(&first).await, [session(1)]);
    let never = Incarnation::new(1, 1);
    assert_eq!(store.delete_rows(&first, &token, never).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, [session(1)]);
    assert_eq!(store.delete_rows(&first, &token, first.incarnation).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, []);
}

async fn peers_see_every_heartbeat(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let token = granted(store, &first).await;
    granted(store, &second).await;
    renew(store, &first, &token, nth_heartbeat(41)).await.unwrap();
    let load = Load { connections: 700, connects_per_second: 3_000, duty: Duty::Draining };
    renew(store, &first, &token, Heartbeat { number: 42, load }).await.unwrap();
    let mut peers = store.peers().await.unwrap();
    peers.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
    let [one, two] = &peers[..] else { panic!("two instances send heartbeats: {peers:?}") };
    assert_eq!((&one.instance, one.number, one.load), (&first, 42, Some(load)));
    assert_eq!((&two.instance, two.number), (&second, 0));
    assert!(one.age < support::PATIENCE, "the age is counted by the store's clock: {:?}", one.age);
}

fn put_for(user: &str, number: u128) -> RowChange {
    let connected_at = Timestamp(1_795_176_000_000 + number as u64);
    RowChange::Put(session(number), ConnectionRow { connected_at, ..row(user) }, connected_at)
}

/// A row of this session that arrived at another moment.
fn put_at(number: u128, moment: u64) -> RowChange {
    let connected_at = Timestamp(1_795_176_000_000 + moment);
    RowChange::Put(session(number), ConnectionRow { connected_at, ..row("alice") }, connected_at)
}

fn closing(number: u128, why: CloseReason) -> InstanceCommand {
    closing_at(number, number as u64, why)
}

fn closing_at(number: u128, moment: u64, why: CloseReason) -> InstanceCommand {
    InstanceCommand::Session(
        SessionClose { session: session(number), why },
        Some(Timestamp(1_795_176_000_000 + moment)),
    )
}

async fn the_new_one_is_refused_when_its_user_has_enough(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    assert_eq!(store.write_rows(&first, &one, &[put(1)]).await, listed(1));
    assert_eq!(store.write_rows(&second, &two, &[put(2)]).await, listed(1));
    // On either instance, in one batch with an allowed connection, and written again.
    let refused = DirectoryReply { rows: 2, commands: vec![closing(3, CloseReason::TooMany)] };
    assert_eq!(store.write_rows(&second, &two, &[put(3), put_for("bob", 4)]).await, Ok(refused));
    let refused = DirectoryReply { rows: 1, commands: vec![closing(3, CloseReason::TooMany)] };
    assert_eq!(store.write_rows(&first, &one, &[put(3), put(1)]).await, Ok(refused));
    // One connection ends, and there is room for another.
    assert_eq!(store.write_rows(&second, &two, &[RowChange::Remove(session(2))]).await, listed(1));
    assert_eq!(store.write_rows(&first, &one, &[put(3)]).await, listed(2));
    assert_eq!(renew(store, &second, &two, nth_heartbeat(1)).await, listed(1), "nobody else has to go");
}

async fn the_oldest_goes_when_its_user_has_one_too_many(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    store.write_rows(&first, &one, &[put(1)]).await.unwrap();
    store.write_rows(&second, &two, &[put(2)]).await.unwrap();
    assert_eq!(store.write_rows(&second, &two, &[put(3)]).await, listed(2));
    // The oldest connection is on the other instance, which gets the command at its next heartbeat, once.
    let reported = renew(store, &first, &one, nth_heartbeat(1)).await.unwrap();
    assert_eq!(reported.commands, [closing(1, CloseReason::Replaced)]);
    store.write_rows(&first, &one, &[RowChange::Remove(session(1))]).await.unwrap();
    assert_eq!(renew(store, &first, &one, nth_heartbeat(2)).await, listed(0));
    // Also on the same instance, and not in an answer that may be lost.
    for _ in 0..2 {
        assert_eq!(store.write_rows(&second, &two, &[put(4)]).await, listed(2));
    }
    assert_eq!(
        renew(store, &second, &two, nth_heartbeat(1)).await.unwrap().commands,
        [closing(2, CloseReason::Replaced)]
    );
    // When rows are written again after an outage, the oldest connection may be the one that is written.
    let itself = DirectoryReply { rows: 0, commands: vec![closing(1, CloseReason::Replaced)] };
    assert_eq!(store.write_rows(&first, &one, &[put(1)]).await, Ok(itself));
    assert_eq!(renew(store, &second, &two, nth_heartbeat(2)).await, listed(2));
}

async fn a_tenant_has_no_more_than_it_may(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    assert_eq!(store.write_rows(&first, &one, &[put_for("a", 1), put_for("b", 2)]).await, listed(2));
    let reported = store.write_rows(&second, &two, &[put_for("c", 3), put_for("d", 4)]).await.unwrap();
    assert_eq!(reported, DirectoryReply { rows: 1, commands: vec![closing(4, CloseReason::TooMany)] });
    // A row that is written again does not count twice.
    assert_eq!(store.write_rows(&first, &one, &[put_for("a", 1), put_for("b", 2)]).await, listed(2));
    store.write_rows(&first, &one, &[RowChange::Remove(session(1))]).await.unwrap();
    assert_eq!(store.write_rows(&second, &two, &[put_for("d", 4)]).await, listed(2));
}

/// A client that returns with its session before its old socket is found dead is not refused because of its old
/// connection.
async fn a_session_that_returns_elsewhere_is_one_connection(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    assert_eq!(store.write_rows(&first, &one, &[put(1), put(2)]).await, listed(2));
    assert_eq!(store.write_rows(&second, &two, &[put_at(1, 10)]).await, listed(1));
    let reported = renew(store, &first, &one, nth_heartbeat(1)).await.unwrap();
    assert_eq!(reported.commands, [closing(1, CloseReason::Replaced)]);
    store.write_rows(&first, &one, &[RowChange::Remove(session(1))]).await.unwrap();
    // Written there once more, as after a lost answer, the older connection is closed.
    let reported = store.write_rows(&first, &one, &[put_at(1, 0)]).await.unwrap();
    assert_eq!(reported.commands, [closing_at(1, 0, CloseReason::Replaced)]);
    assert_eq!(renew(store, &second, &two, nth_heartbeat(1)).await, listed(1), "the newer one stays");
    // The end of the older connection changes no count: the user has two, and there is no room for a third.
    let reported = store.write_rows(&first, &one, &[put(3)]).await.unwrap();
    assert_eq!(reported.commands, [closing(3, CloseReason::TooMany)]);
    assert_eq!(renew(store, &second, &two, nth_heartbeat(1)).await, listed(1));
}

/// An instance with an inexact clock offset must not treat its newest connections as the older ones.
async fn of_two_that_may_be_the_newer_one_the_one_written_later_stays(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    let uncertain = |from, to: u64| match put_at(1, from) {
        RowChange::Put(session, row, _) => RowChange::Put(session, row, Timestamp(1_795_176_000_000 + to)),
        RowChange::Remove(_) => unreachable!("it is put"),
    };
    assert_eq!(store.write_rows(&first, &one, &[put_at(1, 50)]).await, listed(1));
    let reported = store.write_rows(&second, &two, &[uncertain(10, 49)]).await.unwrap();
    assert_eq!(reported.commands, [closing_at(1, 10, CloseReason::Replaced)], "it is the older one at the latest");
    assert_eq!(store.write_rows(&second, &two, &[uncertain(10, 50)]).await, listed(1));
    assert_eq!(
        renew(store, &first, &one, nth_heartbeat(1)).await.unwrap().commands,
        [closing_at(1, 50, CloseReason::Replaced)]
    );
}

fn record(offset: u64) -> SessionRecord {
    SessionRecord { channels: vec![("collection:42:*".into(), Some(Position::new(7, offset)))], exact: true }
}

/// The record that a connection of alice's session 1 leaves that arrived at this moment.
fn left_at(moment: u64, offset: u64) -> ClosedSessionRecord {
    let ConnectionRow { tenant, user, connected_at, .. } = row("alice");
    let since = Timestamp(connected_at.0 + moment);
    ClosedSessionRecord { session: session(1), tenant, user, since, arrival: Instant::now(), record: record(offset) }
}

/// The lookup of a connection that arrived at this moment.
fn lookup(user: &str, moment: u64, number: u64) -> RecordLookup {
    let ConnectionRow { tenant, user, connected_at, shard } = row(user);
    let since = Timestamp(connected_at.0 + moment);
    let (arrival, registration) = (Instant::now(), Directory::default().connect(session(1), row("alice")));
    let ask = RestoreRequest {
        session: session(1),
        tenant,
        user,
        since,
        arrival,
        number: registration.number(),
        shard,
        awaited: false,
    };
    RecordLookup::new(ask, number, arrival)
}

async fn a_record_is_for_one_taker_and_its_owner(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 10, 1)]).await, Ok(vec![LookupResult::Nothing]));
    let refused = StoreError::Refused(Refusal::Taken);
    assert_eq!(store.leave_records(&first, &two, &[left_at(0, 5)]).await, Err(refused.clone()));
    store.leave_records(&first, &one, &[left_at(0, 5)]).await.unwrap();
    assert_eq!(store.take_records(&second, &one, &[lookup("alice", 10, 1)]).await, Err(refused));
    assert_eq!(store.take_records(&second, &two, &[lookup("bob", 10, 1)]).await, Ok(vec![LookupResult::Nothing]));
    let found = Ok(vec![LookupResult::Record(record(5))]);
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 10, 2)]).await, found);
    // The same lookup, repeated as after a lost answer, gets the record again. Other lookups do not.
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 10, 2)]).await, found);
    let others = [lookup("alice", 10, 3), lookup("alice", 11, 4)];
    assert_eq!(store.take_records(&second, &two, &others).await, Ok(vec![LookupResult::Awaited; 2]));
    assert_eq!(store.take_records(&first, &one, &[lookup("alice", 10, 2)]).await, Ok(vec![LookupResult::Awaited]));
}

async fn the_newest_connection_has_the_record(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (token, two) = (granted(store, &first).await, granted(store, &second).await);
    for (moment, offset) in [(0, 5), (10, 9), (5, 7)] {
        store.leave_records(&first, &token, &[left_at(moment, offset)]).await.unwrap();
    }
    let found = Ok(vec![LookupResult::Record(record(9))]);
    assert_eq!(store.take_records(&first, &token, &[lookup("alice", 20, 1)]).await, found);
    // The old record, written again late, is not stored. The record that the taker leaves is stored.
    store.leave_records(&second, &two, &[left_at(10, 9)]).await.unwrap();
    assert_eq!(store.take_records(&first, &token, &[lookup("alice", 30, 2)]).await, Ok(vec![LookupResult::Awaited]));
    store.leave_records(&first, &token, &[left_at(20, 11)]).await.unwrap();
    let found = Ok(vec![LookupResult::Record(record(11))]);
    assert_eq!(store.take_records(&first, &token, &[lookup("alice", 30, 3)]).await, found);
}

/// Clocks drift and jump, and a failover brings another clock: a connection may have another time of arrival when it
/// ends.
async fn a_connection_that_took_a_record_leaves_its_own_whatever_its_date(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    store.leave_records(&second, &two, &[left_at(0, 5)]).await.unwrap();
    store.take_records(&first, &one, &[lookup("alice", 5_000, 1)]).await.unwrap();
    store.leave_records(&first, &one, &[left_at(10, 9)]).await.unwrap();
    let found = Ok(vec![LookupResult::Record(record(9))]);
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 20, 1)]).await, found);
}

/// An own row may be that of the connection that asks, and the instance itself knows its newest connection.
async fn an_instances_own_rows_end_nobody(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    store.write_rows(&first, &one, &[put_at(1, 5_000)]).await.unwrap();
    for moment in [4_999, 5_000, 5_001] {
        let asked = [lookup("alice", moment, moment)];
        assert_eq!(store.take_records(&first, &one, &asked).await, Ok(vec![LookupResult::Nothing]), "{moment}");
    }
    assert_eq!(renew(store, &first, &one, nth_heartbeat(1)).await.unwrap().commands, []);
    // A lookup of another instance still has the connection closed.
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 5_001, 1)]).await, Ok(vec![LookupResult::Awaited]));
    assert_eq!(
        renew(store, &first, &one, nth_heartbeat(2)).await.unwrap().commands,
        [closing_at(1, 5_000, CloseReason::Replaced)]
    );
}

async fn a_session_that_is_connected_is_asked_to_end(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    store.write_rows(&first, &one, &[put_at(1, 5_000)]).await.unwrap();
    let older = Timestamp(row("alice").connected_at.0 + 5_000);
    assert_eq!(store.take_records(&second, &two, &[lookup("bob", 10, 1)]).await, Ok(vec![LookupResult::Nothing]));
    assert_eq!(
        renew(store, &first, &one, nth_heartbeat(1)).await.unwrap().commands,
        [],
        "a stranger has nobody closed"
    );
    for moment in [0, 4_999] {
        assert_eq!(
            store.take_records(&second, &two, &[lookup("alice", moment, 1)]).await,
            Ok(vec![LookupResult::Replaced])
        );
    }
    assert_eq!(renew(store, &first, &one, nth_heartbeat(2)).await.unwrap().commands, [], "the newer one stays");
    let mut uncertain = lookup("alice", 4_999, 1);
    uncertain.latest = older;
    assert_eq!(store.take_records(&second, &two, &[uncertain]).await, Ok(vec![LookupResult::Awaited]));
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 5_010, 2)]).await, Ok(vec![LookupResult::Awaited]));
    let command =
        InstanceCommand::Session(SessionClose { session: session(1), why: CloseReason::Replaced }, Some(older));
    assert_eq!(renew(store, &first, &one, nth_heartbeat(3)).await.unwrap().commands, [command]);
    store.leave_records(&first, &one, &[left_at(5_000, 5)]).await.unwrap();
    store.write_rows(&first, &one, &[RowChange::Remove(session(1))]).await.unwrap();
    let found = Ok(vec![LookupResult::Record(record(5))]);
    assert_eq!(store.take_records(&second, &two, &[lookup("alice", 5_010, 2)]).await, found);
}

#[tokio::test]
async fn a_record_waits_for_a_bounded_time() {
    let timings = Timings { record: Duration::from_millis(300), ..unhurried() };
    let server = RedisServer::start();
    expires(&MemoryStore::new(ANY_NUMBER, timings)).await;
    expires(&server.store(timings, ANY_NUMBER)).await;
}

async fn expires(store: &impl Store) {
    let first = instance("gw-1", 1);
    let token = granted(store, &first).await;
    store.leave_records(&first, &token, &[left_at(0, 5)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(store.take_records(&first, &token, &[lookup("alice", 10, 1)]).await, Ok(vec![LookupResult::Nothing]));
}

/// A connection on another instance is closed for a newer one of the same session, without waiting for a heartbeat.
async fn a_command_wakes_its_instance(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    store.write_rows(&first, &one, &[put(1)]).await.unwrap();
    let mut wait_for_wakeup = std::pin::pin!(store.wait_for_wakeup(&first.id));
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(200), &mut wait_for_wakeup).await;
    assert!(quiet.is_err(), "{quiet:?} without a command");
    let command = async { store.write_rows(&second, &two, &[put_at(1, 10)]).await };
    let (wait_for_wakeup, ordered) = tokio::join!(tokio::time::timeout(support::PATIENCE, wait_for_wakeup), command);
    assert_eq!((wait_for_wakeup.unwrap(), ordered), (Ok(true), listed(1)));
    assert_eq!(
        renew(store, &first, &one, nth_heartbeat(1)).await.unwrap().commands,
        [closing(1, CloseReason::Replaced)]
    );
}

async fn the_dead_are_not_counted(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(store, &first).await, granted(store, &second).await);
    assert_eq!(store.write_rows(&first, &one, &[put(1), put(2)]).await, listed(2));
    let reported = store.write_rows(&second, &two, &[put(3)]).await.unwrap();
    assert_eq!(reported.commands, [closing(3, CloseReason::TooMany)]);
    store.release(&first, &one).await.unwrap();
    assert_eq!(store.write_rows(&second, &two, &[put(3)]).await, listed(1));
}
