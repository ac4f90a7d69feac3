//! One suite, every store: what a lease, a token and a row are.

mod support;

use connection_registry::{
    Acquired, Incarnation, Instance, MemoryStore, ROW_CHANGES_MAX, RedisStore, Refusal, RowChange, Store, StoreError,
    Timings, Token,
};
use keyspace::Keyspace;
use support::{RedisServer, command, instance, row};
use wire::SessionId;

/// A store, and a way to look behind it.
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
    async fn start() -> Self {
        let server = RedisServer::start();
        let store = server.store(Timings::default());
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
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::MemoryStore::default()).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::RedisBench::start().await).await;
            })+
        }
    };
}

conformance!(
    one_incarnation_holds_the_lease,
    a_released_lease_leaves_nothing,
    an_incarnation_that_asks_again_gets_a_new_token,
    a_stale_token_changes_nothing,
    rows_are_counted_replaced_and_removed,
    a_full_batch_fits,
    the_one_before_is_named_and_its_rows_can_be_deleted,
    peers_see_every_beat,
);

async fn granted(store: &impl Store, instance: &Instance) -> Token {
    match store.acquire(instance, 0).await.unwrap() {
        Acquired::Granted { token, .. } => token,
        Acquired::Busy { holder } => panic!("held by {holder}"),
    }
}

fn session(number: u128) -> SessionId {
    SessionId::from_random(number)
}

fn put(number: u128) -> RowChange {
    RowChange::Put(session(number), row("alice"))
}

async fn one_incarnation_holds_the_lease(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-1", 2));
    let token = granted(store, &first).await;
    assert_eq!(store.acquire(&second, 0).await, Ok(Acquired::Busy { holder: first.incarnation }));
    // Another instance is another lease.
    granted(store, &instance("gw-2", 3)).await;
    assert_eq!(store.renew(&first, &token, 1).await, Ok(0));
}

async fn a_released_lease_leaves_nothing(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    assert_eq!(store.release(&first, &token).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, []);
    assert_eq!(store.peers().await, Ok(vec![]));
    assert_eq!(store.renew(&first, &token, 2).await, Err(StoreError::Refused(Refusal::Expired)));
    assert_ne!(granted(store, &instance("gw-1", 2)).await, token);
}

async fn an_incarnation_that_asks_again_gets_a_new_token(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let lost_on_the_way = granted(store, &first).await;
    let token = granted(store, &first).await;
    assert_ne!(lost_on_the_way, token);
    assert_eq!(store.renew(&first, &lost_on_the_way, 1).await, Err(StoreError::Refused(Refusal::Taken)));
    assert_eq!(store.renew(&first, &token, 1).await, Ok(0));
}

/// Refused in the store: after another incarnation acquired the lease, nothing that the first one still sends,
/// however late, touches anything.
async fn a_stale_token_changes_nothing(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-1", 2));
    let stale = granted(store, &first).await;
    store.release(&first, &stale).await.unwrap();
    let token = granted(store, &second).await;
    store.write_rows(&second, &token, &[put(1)]).await.unwrap();

    let refused = StoreError::Refused(Refusal::Taken);
    assert_eq!(store.renew(&first, &stale, 9).await, Err(refused.clone()));
    assert_eq!(store.write_rows(&first, &stale, &[put(2)]).await, Err(refused.clone()));
    assert_eq!(store.write_rows(&second, &stale, &[RowChange::Remove(session(1))]).await, Err(refused.clone()));
    assert_eq!(store.delete_rows(&second, &stale, second.incarnation).await, Err(refused.clone()));
    assert_eq!(store.release(&second, &stale).await, Err(refused));

    assert_eq!(bench.sessions(&first).await, []);
    assert_eq!(bench.sessions(&second).await, [session(1)]);
    assert_eq!(store.renew(&second, &token, 1).await, Ok(1));
    let peers = store.peers().await.unwrap();
    assert_eq!(peers.iter().map(|beat| &beat.instance).collect::<Vec<_>>(), [&second]);
}

async fn rows_are_counted_replaced_and_removed(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    assert_eq!(store.write_rows(&first, &token, &[put(1), put(2)]).await, Ok(2));
    let changes = [RowChange::Remove(session(1)), put(2), put(3), RowChange::Remove(session(4))];
    assert_eq!(store.write_rows(&first, &token, &changes).await, Ok(2));
    assert_eq!(store.renew(&first, &token, 1).await, Ok(2));
    let mut sessions = bench.sessions(&first).await;
    sessions.sort_by_key(SessionId::to_string);
    assert_eq!(sessions, [session(2), session(3)]);
    assert_eq!(store.write_rows(&first, &token, &[2, 3].map(|n| RowChange::Remove(session(n)))).await, Ok(0));
    assert_eq!(store.renew(&first, &token, 2).await, Ok(0));
}

async fn a_full_batch_fits(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let token = granted(store, &first).await;
    let puts: Vec<RowChange> = (0..ROW_CHANGES_MAX as u128).map(put).collect();
    assert_eq!(store.write_rows(&first, &token, &puts).await, Ok(ROW_CHANGES_MAX));
    let removals: Vec<RowChange> = (0..ROW_CHANGES_MAX as u128).map(|n| RowChange::Remove(session(n))).collect();
    assert_eq!(store.write_rows(&first, &token, &removals).await, Ok(0));
}

async fn the_one_before_is_named_and_its_rows_can_be_deleted(bench: impl Bench) {
    let (store, first) = (bench.store(), instance("gw-1", 1));
    let asked = store.acquire(&first, 0).await.unwrap();
    let Acquired::Granted { token, before: None } = asked else { panic!("nobody was before: {asked:?}") };
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();

    // The same incarnation loses and regains its lease, as after an isolation.
    let asked = store.acquire(&first, 1).await.unwrap();
    let Acquired::Granted { token, before } = asked else { panic!("ours already: {asked:?}") };
    assert_eq!(before, Some(first.incarnation));
    assert_eq!(bench.sessions(&first).await, [session(1)]);
    let never = Incarnation::new(1, 1);
    assert_eq!(store.delete_rows(&first, &token, never).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, [session(1)]);
    assert_eq!(store.delete_rows(&first, &token, first.incarnation).await, Ok(()));
    assert_eq!(bench.sessions(&first).await, []);
}

async fn peers_see_every_beat(bench: impl Bench) {
    let (store, first, second) = (bench.store(), instance("gw-1", 1), instance("gw-2", 2));
    let token = granted(store, &first).await;
    granted(store, &second).await;
    store.renew(&first, &token, 41).await.unwrap();
    store.renew(&first, &token, 42).await.unwrap();
    let mut peers = store.peers().await.unwrap();
    peers.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
    let [one, two] = &peers[..] else { panic!("two instances beat: {peers:?}") };
    assert_eq!((&one.instance, one.number), (&first, 42));
    assert_eq!((&two.instance, two.number), (&second, 0));
    assert!(one.age < support::PATIENCE, "the age is counted by the store's clock: {:?}", one.age);
}
