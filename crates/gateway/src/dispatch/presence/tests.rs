//! The presence service with one shard and a store in memory.

use std::sync::atomic::{AtomicBool, Ordering};

use connection_registry::{
    Acquired, ConnectionLimits, Duty, Heartbeat, Incarnation, Instance, Load, MemberChange, MemoryStore,
    PresenceSnapshot, Store,
};
use wire::{Families, InstanceId, Timestamp, UserId};

use super::*;
use crate::host::mailbox::Mailbox;
use crate::shard::hub::ShardHandle;

const SHARD: ShardIndex = ShardIndex(0);
const DEADLINE: Duration = Duration::from_secs(20);

/// A store in memory that can be made unreachable.
#[derive(Debug, Clone)]
struct Flaky {
    inner: MemoryStore,
    is_away: Arc<AtomicBool>,
}

struct TestService {
    store: Flaky,
    instance: Instance,
    token: Token,
    lease: watch::Sender<LeaseState>,
    presence: Arc<Presence>,
    inbox: Arc<PresenceInbox>,
    hub: Hub,
    counters: Arc<PresenceCounters>,
}

fn room(id: u32) -> Scope {
    Families::default().parse_scope(&format!("acme/collection:{id}")).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn held(token: &Token) -> LeaseState {
    LeaseState::Held { token: token.clone(), deadline: None, end: None }
}

impl TestService {
    /// Starts a presence service with its environment.
    async fn start() -> Self {
        let inner = MemoryStore::new(
            ConnectionLimits::default(),
            connection_registry::Timings { grace: Duration::ZERO, ..connection_registry::Timings::default() },
        );
        let id = InstanceId::parse("gw-1").unwrap();
        let instance = Instance { id, incarnation: Incarnation::new(1, 1), address: "".into() };
        let load = Load { connections: 0, connects_per_second: 0, duty: Duty::Full };
        let granted = inner.acquire(&instance, Heartbeat { number: 0, load }).await.unwrap();
        let Acquired::Granted { token, .. } = granted else { panic!("no other instance requests the lease") };
        let store = Flaky { inner, is_away: Arc::default() };
        let shard = ShardHandle { inbox: Arc::new(Mailbox::new(1 << 20)), counters: Arc::default() };
        let (lease, watched) = watch::channel(held(&token));
        let bench = Self {
            store,
            instance,
            token,
            lease,
            presence: Arc::default(),
            inbox: Arc::new(Mailbox::new(1 << 20)),
            hub: Hub::new(vec![shard]),
            counters: Arc::default(),
        };
        let presence_service = PresenceService {
            store: bench.store.clone(),
            presence: Arc::clone(&bench.presence),
            hub: bench.hub.clone(),
            inbox: Arc::clone(&bench.inbox),
            counters: Arc::clone(&bench.counters),
            lease: watched,
            settle: Duration::from_millis(50),
            watched: HashMap::new(),
            asked: HashMap::new(),
        };
        tokio::spawn(presence_service.run());
        bench
    }

    async fn change(&self, scope: &Scope, name: &str, enters: bool) {
        let change = match enters {
            true => MemberChange::Enter(scope.clone(), user(name), None),
            false => MemberChange::Exit(scope.clone(), user(name)),
        };
        self.store.inner.write_members(&self.instance, &self.token, &[change]).await.unwrap();
    }

    fn watch(&self, scope: Scope) {
        self.inbox.push((SHARD, WatchRequest::Begun(scope)), 0);
    }

    /// Returns what the shard receives next, as text.
    async fn sent(&self) -> Vec<String> {
        let mut sent = Vec::new();
        let take = self.hub.shard(SHARD).inbox.take_all(&mut sent);
        tokio::time::timeout(DEADLINE, take).await.expect("the shard receives something");
        let text = |sent: ToShard| match sent {
            ToShard::PresenceListed(listed) => {
                let stale = if listed.cursor.is_none() { " stale" } else { "" };
                format!("{} of {}{stale}", listed.list.count, listed.scope.name())
            }
            ToShard::PresenceChanged(scope, _, event) => {
                let kind = if event.transition == PresenceTransition::Left { "left" } else { "joined" };
                format!("{kind} {}", scope.name())
            }
            ToShard::ResyncPresence => "anew".into(),
            other => panic!("{other:?}"),
        };
        sent.into_iter().map(text).collect()
    }

    async fn expect(&self, expected: &[&str]) {
        let mut sent = Vec::new();
        while sent.len() < expected.len() {
            sent.extend(self.sent().await);
        }
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn a_scope_is_listed_and_followed_while_it_is_watched() {
    let bench = TestService::start().await;
    bench.change(&room(1), "alice", true).await;
    bench.watch(room(1));
    bench.expect(&["1 of collection:1"]).await;
    bench.change(&room(1), "bob", true).await;
    bench.expect(&["joined collection:1"]).await;
    bench.change(&room(2), "bob", true).await; // this scope is not watched
    bench.change(&room(1), "bob", false).await;
    bench.expect(&["left collection:1"]).await;
    assert_eq!((bench.counters.watched.get(), bench.counters.joined.get(), bench.counters.left.get()), (1, 2, 1));
    bench.inbox.push((SHARD, WatchRequest::Ended(room(1))), 0);
    bench.watch(room(2));
    bench.expect(&["1 of collection:2"]).await;
    bench.change(&room(1), "carol", true).await;
    bench.change(&room(2), "carol", true).await;
    bench.expect(&["joined collection:2"]).await;
    assert_eq!(bench.counters.resyncs.get(), 0);
}

/// The store keeps 256 entries. A reader that is further behind cannot know what it missed.
#[tokio::test]
async fn who_has_missed_changes_lists_anew() {
    let bench = TestService::start().await;
    bench.watch(room(1));
    bench.expect(&["0 of collection:1"]).await;
    // None of these calls waits, so the presence service does not run between them.
    for n in 0..150 {
        bench.change(&room(1), &format!("u{n}"), true).await;
        bench.change(&room(1), &format!("u{n}"), false).await;
    }
    bench.change(&room(1), "alice", true).await;
    bench.expect(&["anew"]).await;
    assert_eq!(bench.counters.resyncs.get(), 1);
    bench.watch(room(1)); // the shard does this after a resync
    bench.expect(&["1 of collection:1"]).await;
    bench.change(&room(1), "bob", true).await;
    bench.expect(&["joined collection:1"]).await;
}

/// While the store is unreachable, the service sends the members on this instance as a stale list, and lists again
/// once the store answers.
#[tokio::test]
async fn without_the_store_lists_are_stale() {
    let bench = TestService::start().await;
    bench.presence.enter(&room(1), &user("alice"), &None, Timestamp(0));
    bench.store.is_away.store(true, Ordering::Relaxed);
    bench.watch(room(1));
    bench.expect(&["1 of collection:1 stale"]).await;
    bench.watch(room(1));
    bench.expect(&["1 of collection:1 stale"]).await;
    bench.change(&room(1), "alice", true).await;
    bench.change(&room(1), "bob", true).await;
    bench.store.is_away.store(false, Ordering::Relaxed);
    bench.expect(&["anew"]).await;
    bench.watch(room(1));
    bench.expect(&["2 of collection:1"]).await;
    assert_eq!(bench.counters.resyncs.get(), 1);
}

#[tokio::test]
async fn with_another_lease_everything_is_listed_anew() {
    let bench = TestService::start().await;
    bench.watch(room(1));
    bench.expect(&["0 of collection:1"]).await;
    // A renewal of the same lease changes nothing.
    bench.lease.send_replace(held(&bench.token));
    bench.change(&room(1), "alice", true).await;
    bench.expect(&["joined collection:1"]).await;
    bench.lease.send_replace(held(&Token::from_store("another")));
    bench.expect(&["anew"]).await;
}

impl PresenceReader for Flaky {
    async fn list_members(&self, scopes: &[Scope], most: usize) -> Result<PresenceSnapshot, StoreError> {
        self.reach()?.list_members(scopes, most).await
    }

    async fn next_presence_batches(&self, after: PresenceCursor) -> Result<Vec<PresenceBatch>, StoreError> {
        self.reach()?.next_presence_batches(after).await
    }
}

impl Flaky {
    fn reach(&self) -> Result<&MemoryStore, StoreError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unreachable("the store is away".into())),
            false => Ok(&self.inner),
        }
    }
}
