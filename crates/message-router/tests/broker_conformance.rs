//! The contract of [`Broker`], tried on the memory broker, on one Redis and on a Redis Cluster.
//!
//! Each case is written once, for any [`Cluster`], and runs on a store of its own.

mod support {
    pub(crate) mod test_client;
}

mod conformance {
    pub(crate) mod repair;
}

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use conformance::repair::{
    the_router_notices_that_the_last_message_was_dropped, the_router_repairs_an_interruption_without_a_gap,
};
use keyspace::Keyspace;
use message_router::{
    Broker, BrokerError, Command, Draft, Event, FamilyPolicy, MemoryBroker, MemoryConfig, MemoryStore, Policies,
    Publish, RedisBroker, RedisBrokerConfig, Stored, judge,
};
use redis_topology::Target;
use support::test_client::{MESSAGE, ReceivedMessage, TestClient, items};
use test_support::{RedisCluster, RedisServer};
use tokio::time::timeout;
use wire::{GapReason, InstanceId, Position, Scope, Timestamp};

/// One store that any number of brokers use.
trait Cluster {
    type Broker: Broker;
    fn start(policies: &Policies) -> Self;
    /// One more broker on the store, like that of another gateway.
    fn broker(&self) -> Self::Broker;
    /// Ends the subscriptions of a listener that is subscribed to `scope`, from outside.
    fn interrupt(&self, scope: &Scope) -> impl Future<Output = ()>;
    /// Replaces the store by an empty one.
    fn lose_everything(&mut self);
}

struct Memory {
    store: MemoryStore,
    policies: Policies,
    starts: u16,
}

impl Memory {
    fn store(policies: &Policies, starts: u16) -> MemoryStore {
        let mut config = MemoryConfig::new(policies.clone(), since_1970().as_secs(), starts, || now().0);
        config.queue_bytes_max = 1024 * 1024;
        MemoryStore::new(config)
    }
}

impl Cluster for Memory {
    type Broker = MemoryBroker;

    fn start(policies: &Policies) -> Self {
        Self { store: Self::store(policies, 0), policies: policies.clone(), starts: 0 }
    }

    fn broker(&self) -> MemoryBroker {
        MemoryBroker::new(&self.store)
    }

    /// A listener that does not read is disconnected when its queue is full.
    async fn interrupt(&self, scope: &Scope) {
        let mut publisher = TestClient::up(self.broker()).await;
        let large = format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(600 * 1024));
        publisher.publish(scope, &[("", &large)]).await;
        publisher.publish(scope, &[("", &large)]).await;
    }

    fn lose_everything(&mut self) {
        self.starts += 1;
        self.store = Self::store(&self.policies, self.starts);
    }
}

fn since_1970() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970")
}

struct Redis {
    server: RedisServer,
    policies: Policies,
}

impl Cluster for Redis {
    type Broker = RedisBroker;

    fn start(policies: &Policies) -> Self {
        Self { server: RedisServer::start(&[]), policies: policies.clone() }
    }

    fn broker(&self) -> RedisBroker {
        let instance = InstanceId::parse("gw-1").expect("a name");
        let library = self.policies.library();
        let target = Target::parse(&self.server.url()).expect("it is a URL");
        let mut config = RedisBrokerConfig::new(target, Keyspace::default(), instance, library);
        config.backoff_min_ms = 10;
        // A slow answer of a busy machine must not count as an outage.
        (config.probe_interval_ms, config.reply_deadline_ms) = (60_000, 60_000);
        RedisBroker::new(config)
    }

    async fn interrupt(&self, _: &Scope) {
        let killed: u64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "pubsub"])
            .query(&mut self.server.connect())
            .expect("the server runs");
        assert!(killed > 0, "there is a subscriber to be killed");
    }

    fn lose_everything(&mut self) {
        self.server.crash_and_restart();
    }
}

thread_local! {
    /// One cluster for all cases, because it takes seconds to form. It is cleared before each case.
    static REDIS_CLUSTER: RefCell<Option<Rc<RefCell<RedisCluster>>>> = const { RefCell::new(None) };
}

struct Sharded {
    nodes: Rc<RefCell<RedisCluster>>,
    policies: Policies,
}

impl Cluster for Sharded {
    type Broker = RedisBroker;

    fn start(policies: &Policies) -> Self {
        let nodes = REDIS_CLUSTER.with_borrow_mut(|kept| {
            Rc::clone(kept.get_or_insert_with(|| Rc::new(RefCell::new(RedisCluster::start()))))
        });
        nodes.borrow().clear();
        Self { nodes, policies: policies.clone() }
    }

    fn broker(&self) -> RedisBroker {
        let instance = InstanceId::parse("gw-1").expect("a name");
        let target = Target::parse(&self.nodes.borrow().url()).expect("it is a URL");
        let mut config = RedisBrokerConfig::new(target, Keyspace::default(), instance, self.policies.library());
        config.backoff_min_ms = 10;
        // A slow answer of a busy machine must not count as an outage.
        (config.probe_interval_ms, config.reply_deadline_ms) = (60_000, 60_000);
        RedisBroker::new(config)
    }

    /// Kills the connections to all nodes: a listener that lost one of them would continue with the others.
    async fn interrupt(&self, _: &Scope) {
        for node in self.nodes.borrow().nodes() {
            let killed: u64 = node.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            assert!(killed > 0, "there is a subscriber to be killed");
        }
    }

    fn lose_everything(&mut self) {
        self.nodes.borrow_mut().crash_and_restart();
    }
}

/// Runs every case on every broker.
macro_rules! conformance {
    ($($case:ident)*) => {
        /// Runs the cases on one thread, one after the other.
        #[tokio::test]
        async fn redis_cluster() {
            $(
                eprintln!("on a cluster: {}", stringify!($case));
                $case::<Sharded>().await;
            )*
            REDIS_CLUSTER.with_borrow_mut(|kept| drop(kept.take()));
        }
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case::<super::Memory>().await; })*
        }
        mod redis_7 {
            $(#[tokio::test] async fn $case() { super::$case::<super::Redis>().await; })*
        }
    };
}

conformance! {
    nothing_is_subscribed_at_up
    messages_published_after_the_confirmation_arrive_in_order
    every_listener_receives_the_same_order_of_all_publishers
    publishes_keep_their_order_however_many_are_under_way
    a_batch_has_consecutive_positions
    an_id_is_stored_once
    an_id_is_lost_with_its_message
    an_unused_scope_has_begun_its_first_generation
    a_received_message_can_be_read
    a_history_is_read_after_any_position
    topics_and_bytes_arrive_and_are_kept_unchanged
    a_history_is_read_in_pages
    a_history_keeps_the_newest_entries_of_its_family
    messages_past_their_ttl_are_not_read_and_positions_continue
    a_family_without_history_has_positions_too
    one_user_id_in_two_tenants_is_two_scopes
    unsubscribing_ends_one_scope_alone
    every_command_with_a_ticket_has_one_answer
    a_dropped_future_loses_nothing
    a_listener_that_waits_is_woken
    a_burst_is_available_without_waiting
    a_store_that_lost_everything_does_not_know_its_positions
    stored_messages_are_not_recorded_as_lost
    an_empty_publish_is_refused
    an_interruption_is_reported_and_nothing_is_subscribed_after_it
    tops_are_returned_in_the_requested_order
    a_second_subscribe_is_confirmed_after_all_earlier_messages
    a_reset_broker_drops_messages_under_way_and_reconnects
    the_router_repairs_an_interruption_without_a_gap
    the_router_notices_that_the_last_message_was_dropped
}

fn policies(change: impl Fn(&mut FamilyPolicy)) -> Policies {
    let defaults = Policies::default();
    let changed = |(index, shape): (_, &wire::FamilyShape)| {
        let mut policy = *defaults.policy(index);
        change(&mut policy);
        (shape.clone(), policy)
    };
    Policies::new(defaults.families().iter().map(changed).collect())
}

fn scope(text: &str) -> Scope {
    Policies::default().families().parse_scope(text).expect("a scope")
}

fn offsets(received: &[ReceivedMessage]) -> Vec<u64> {
    received.iter().map(|received| received.position.offset).collect()
}

async fn nothing_is_subscribed_at_up<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let (silent, fence) = (scope("acme/user:1"), scope("acme/user:2"));
    client.publish(&silent, &[("", MESSAGE)]).await;
    client.subscribe(&fence).await;
    client.publish(&silent, &[("", MESSAGE)]).await;
    client.publish(&fence, &[("", MESSAGE)]).await;
    assert_eq!(client.receive().await.scope, "acme/user:2");
}

async fn messages_published_after_the_confirmation_arrive_in_order<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/collection:42");
    listener.subscribe(&scope).await;
    for _ in 0..200 {
        publisher.publish(&scope, &[("ops", MESSAGE)]).await;
    }
    let received = listener.receive_many(200).await;
    assert_eq!(offsets(&received), (1..=200).collect::<Vec<_>>());
    assert!(received.iter().all(|h| h.position.generation == received[0].position.generation));
}

async fn every_listener_receives_the_same_order_of_all_publishers<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(TestClient::up(cluster.broker()).await);
    }
    let scope = scope("acme/collection:42");
    for client in &mut clients {
        client.subscribe(&scope).await;
    }
    // All publishers send at once; none waits for the answers of the others.
    for number in 0..50 {
        for (who, client) in clients.iter_mut().enumerate() {
            let ticket = client.ticket();
            let messages = vec![Draft::new(format!("from-{who}-{number}"), MESSAGE.as_bytes().to_vec())];
            client.broker.command(Command::Publish(Publish {
                ticket,
                scope: scope.clone(),
                messages,
                replicated: false,
            }));
        }
    }
    let receive_all = async |client: &mut TestClient<C::Broker>| {
        let (mut received, mut answers) = (Vec::new(), 0);
        while received.len() < 150 || answers < 50 {
            match client.next().await {
                Event::Message { scope, envelope } => received.extend(items(&scope, &envelope)),
                Event::Published { result, .. } => answers += usize::from(result.is_ok()),
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(offsets(&received), (1..=150).collect::<Vec<_>>());
        received
    };
    let [a, b, c] = clients.as_mut_slice() else { panic!("three were started") };
    let orders: [_; 3] = tokio::join!(receive_all(a), receive_all(b), receive_all(c)).into();
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    for who in 0..3 {
        let own = format!("from-{who}-");
        let numbers = orders[0].iter().filter_map(|h| h.topic.strip_prefix(&own)).map(|n| n.parse::<u32>().unwrap());
        assert!(numbers.is_sorted(), "one publisher's messages keep their order");
    }
}

async fn publishes_keep_their_order_however_many_are_under_way<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/collection:42");
    // In bursts, so that some publishes arrive while earlier ones wait to be sent, however long that queue may be.
    for _ in 0..30 {
        for _ in 0..30 {
            let messages = vec![Draft::new("", MESSAGE.as_bytes().to_vec())];
            let ticket = client.ticket();
            client.broker.command(Command::Publish(Publish {
                ticket,
                scope: scope.clone(),
                messages,
                replicated: false,
            }));
        }
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    while answers.len() < 900 {
        match client.next().await {
            Event::Published { ticket, result } => {
                answers.push((ticket.0, result.expect("Redis is there").position.offset))
            }
            event => panic!("{event:?}"),
        }
    }
    answers.sort_unstable();
    assert!(answers.iter().map(|(_, offset)| *offset).eq(1..=900), "ticket and offset: {answers:?}");
}

async fn a_batch_has_consecutive_positions<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    client.subscribe(&scope).await;
    let single = client.publish(&scope, &[("", MESSAGE)]).await;
    let last = client.publish(&scope, &[("a", MESSAGE), ("b", MESSAGE), ("c", MESSAGE)]).await;
    assert_eq!(last, Position::new(single.generation, 4), "the answer names the last of them");
    let received = client.receive_many(4).await;
    assert_eq!(offsets(&received), [1, 2, 3, 4]);
    assert_eq!(received.iter().map(|h| h.topic.as_str()).collect::<Vec<_>>(), ["", "a", "b", "c"]);
}

async fn an_id_is_stored_once<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut client, mut other) = (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    client.subscribe(&scope).await;
    let first = client.publish_once(&scope, &["a"]).await;
    assert!(!first.duplicate);
    let at = |offset| Position::new(first.position.generation, offset);
    assert_eq!(first.position, at(1));
    // From another gateway, and twice: the id belongs to the scope.
    for _ in 0..2 {
        assert_eq!(other.publish_once(&scope, &["a"]).await, Stored { duplicate: true, ..Stored::at(at(1)) });
    }
    // Each message of a batch is compared by itself; the answer is about the last one.
    assert_eq!(client.publish_once(&scope, &["b", "", "b", "a", "c"]).await, Stored::at(at(4)));
    assert_eq!(client.publish_once(&scope, &["c", "a"]).await, Stored { duplicate: true, ..Stored::at(at(1)) });
    assert_eq!(other.publish_once(&another_scope(), &["a"]).await.position.offset, 1, "another scope's id");
    client.publish(&scope, &[("end", MESSAGE)]).await;
    let received = client.receive_many(5).await;
    assert_eq!(offsets(&received), [1, 2, 3, 4, 5], "nothing is received twice, and no offset is left out");
    let kept = client.read(&scope, Some(at(0)), 10).await;
    assert_eq!((kept.entries.len(), kept.top), (5, at(5)));
}

fn another_scope() -> Scope {
    scope("acme/user:2")
}

async fn an_id_is_lost_with_its_message<C: Cluster>() {
    let mut cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    let lost = client.publish_once(&scope, &["a"]).await;
    cluster.lose_everything();
    let mut client = TestClient::up(cluster.broker()).await;
    let again = client.publish_once(&scope, &["a"]).await;
    assert!(!again.duplicate && again.position != lost.position, "{again:?} after {lost:?}");
}

async fn an_unused_scope_has_begun_its_first_generation<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/system");
    let unused = client.read(&scope, None, 10).await;
    assert_eq!((unused.top.offset, unused.entries.len(), unused.more), (0, 0, false));
    let first = client.publish(&scope, &[("", MESSAGE)]).await;
    let used = client.read(&scope, Some(unused.top), 10).await;
    assert_eq!((used.top, used.entries.len()), (first, 1));
    // A client that began with the unused scope receives that message, and no gap.
    assert_eq!(judge(unused.top, &used), Ok(()), "{unused:?} then {used:?}");
}

async fn a_received_message_can_be_read<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    listener.subscribe(&scope).await;
    let mut after = listener.read(&scope, None, 10).await.top;
    for _ in 0..50 {
        publisher.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
        let received = listener.receive_many(2).await;
        let history = listener.read(&scope, Some(after), 10).await;
        assert_eq!(
            history.entries.iter().map(|e| e.position).collect::<Vec<_>>(),
            [received[0].position, received[1].position]
        );
        after = received[1].position;
    }
}

async fn topics_and_bytes_arrive_and_are_kept_unchanged<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:auth0|5f7c@example.com");
    client.subscribe(&scope).await;
    let texts = [r#"{"type":"a","payload":"line\nline"}"#, "{\"type\":\"b\",\n \"payload\":\"Grüße 🌍\"}", MESSAGE];
    let sent = [("", texts[0]), ("ops:cursor", texts[1]), ("x", texts[2])];
    let before = now();
    client.publish(&scope, &sent).await;
    let received = client.receive_many(3).await;
    let kept = client.read(&scope, Some(Position::new(received[0].position.generation, 0)), 10).await.entries;
    for (index, (topic, text)) in sent.iter().enumerate() {
        assert_eq!((received[index].topic.as_str(), &received[index].message[..]), (*topic, text.as_bytes()));
        assert_eq!((&*kept[index].topic, &kept[index].message[..]), (*topic, text.as_bytes()));
        assert!((before..=now()).contains(&kept[index].time), "stored between {before} and now");
    }
}

fn now() -> Timestamp {
    Timestamp(u64::try_from(since_1970().as_millis()).expect("the year is not that large"))
}

async fn a_history_is_read_in_pages<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    for _ in 0..5 {
        client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    }
    let top = client.read(&scope, None, 10).await.top;
    assert_eq!(top.offset, 10);
    let page = |history: message_router::History| {
        assert_eq!(history.top, top);
        (history.entries.iter().map(|e| e.position.offset).collect::<Vec<_>>(), history.more)
    };
    let at = |offset| Some(Position::new(top.generation, offset));
    assert_eq!(page(client.read(&scope, None, 4).await), (vec![], false));
    assert_eq!(page(client.read(&scope, at(0), 4).await), (vec![1, 2, 3, 4], true));
    assert_eq!(page(client.read(&scope, at(4), 4).await), (vec![5, 6, 7, 8], true));
    assert_eq!(page(client.read(&scope, at(8), 4).await), (vec![9, 10], false));
    assert_eq!(page(client.read(&scope, at(6), 4).await), (vec![7, 8, 9, 10], false));
    assert_eq!(page(client.read(&scope, at(10), 4).await), (vec![], false));
    assert_eq!(page(client.read(&scope, at(11), 4).await), (vec![], false));
}

async fn a_history_is_read_after_any_position<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    let top = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    let (own, max) = (top.generation, u64::MAX);
    let positions = [(max, max), (max, 0), (max - 1, max), (own, max), (own - 1, max), (0, max), (0, 0)];
    for after in positions.map(|(generation, offset)| Position::new(generation, offset)) {
        let count = if after.generation < own { 2 } else { 0 };
        let history = client.read(&scope, Some(after), 9).await;
        assert_eq!((history.top, history.entries.len(), history.more), (top, count, false), "after {after}");
        assert_eq!(judge(after, &history), Err(GapReason::UnknownPosition), "after {after}");
    }
}

async fn a_history_keeps_the_newest_entries_of_its_family<C: Cluster>() {
    let cluster = C::start(&policies(|policy| policy.history_entries_max = 10));
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    let begin = client.read(&scope, None, 1).await.top;
    let mut last = begin;
    for _ in 0..400 {
        last = client.publish(&scope, &[("", MESSAGE)]).await;
    }
    let history = client.read(&scope, Some(begin), 1_000).await;
    assert_eq!(history.top, last);
    let kept: Vec<_> = history.entries.iter().map(|e| e.position.offset).collect();
    assert_eq!(kept, (391..=400).collect::<Vec<_>>(), "the newest ten, without a hole");
    assert_eq!(judge(begin, &history), Err(GapReason::Expired));
    let after = Position::new(last.generation, 390);
    assert_eq!(judge(after, &client.read(&scope, Some(after), 1_000).await), Ok(()));
}

async fn messages_past_their_ttl_are_not_read_and_positions_continue<C: Cluster>() {
    let cluster = C::start(&policies(|policy| policy.ttl_ms = 400));
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/system");
    client.subscribe(&scope).await;
    let begin = client.read(&scope, None, 1).await.top;
    let stored = Instant::now();
    let last = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    loop {
        let history = client.read(&scope, Some(begin), 10).await;
        assert_eq!(history.top, last, "the count outlives the messages");
        if history.entries.is_empty() {
            assert_eq!(judge(begin, &history), Err(GapReason::Expired));
            break;
        }
        assert_eq!(history.entries.len(), 2);
        assert!(stored.elapsed() < Duration::from_secs(30), "messages outlive their TTL");
    }
    assert!(stored.elapsed() >= Duration::from_millis(390), "messages die before their TTL");
    assert_eq!(client.publish(&scope, &[("", MESSAGE)]).await, last.next());
}

async fn a_family_without_history_has_positions_too<C: Cluster>() {
    let cluster = C::start(&policies(|policy| policy.history_entries_max = 0));
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    client.subscribe(&scope).await;
    let begin = client.read(&scope, None, 1).await.top;
    client.publish(&scope, &[("", MESSAGE)]).await;
    let last = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    assert_eq!(offsets(&client.receive_many(3).await), [1, 2, 3]);
    let history = client.read(&scope, Some(begin), 10).await;
    assert_eq!((history.top, history.entries.len(), history.more), (last, 0, false));
    assert_eq!(last.offset, 3);
}

async fn one_user_id_in_two_tenants_is_two_scopes<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut acme, mut globex) = (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let (of_acme, of_globex) = (scope("acme/user:42"), scope("globex/user:42"));
    acme.subscribe(&of_acme).await;
    globex.subscribe(&of_globex).await;
    for number in 0..20 {
        acme.publish(&of_acme, &[("of-acme", MESSAGE)]).await;
        if number % 2 == 0 {
            globex.publish(&of_globex, &[("of-globex", MESSAGE)]).await;
        }
    }
    let received = acme.receive_many(20).await;
    assert!(received.iter().all(|h| h.scope == "acme/user:42" && h.topic == "of-acme"));
    let received = globex.receive_many(10).await;
    assert!(received.iter().all(|h| h.scope == "globex/user:42" && h.topic == "of-globex"));
    assert_eq!(offsets(&received), (1..=10).collect::<Vec<_>>(), "each counts for itself");
    let begin = Position::new(received[0].position.generation, 0);
    let kept = globex.read(&of_globex, Some(begin), 100).await.entries;
    assert!(kept.len() == 10 && kept.iter().all(|e| &*e.topic == "of-globex"));
}

async fn unsubscribing_ends_one_scope_alone<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let (left, stays, fence) = (scope("acme/user:1"), scope("acme/user:2"), scope("acme/user:3"));
    listener.subscribe(&left).await;
    listener.subscribe(&stays).await;
    listener.broker.command(Command::Unsubscribe(left.clone()));
    // Commands take effect in order: when this one is confirmed, the one before it is done.
    listener.subscribe(&fence).await;
    publisher.publish(&left, &[("", MESSAGE)]).await;
    publisher.publish(&stays, &[("", MESSAGE)]).await;
    assert_eq!(listener.receive().await.scope, "acme/user:2");
    listener.subscribe(&left).await;
    publisher.publish(&left, &[("", MESSAGE)]).await;
    let received = listener.receive().await;
    assert_eq!((received.scope.as_str(), received.position.offset), ("acme/user:1", 2));
}

async fn every_command_with_a_ticket_has_one_answer<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scopes = ["acme/user:1", "acme/user:2", "globex/system"].map(scope);
    let (mut reads, mut publishes, mut losses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for number in 0..300 {
        let (ticket, scope) = (client.ticket(), scopes[number % 3].clone());
        if number % 10 == 0 {
            losses.insert(ticket.0);
            client.broker.command(Command::Lost { ticket, scope, position: Position::new(1, 1) });
        } else if number % 2 == 0 {
            reads.insert(ticket.0);
            client.broker.command(Command::Read { ticket, scope, after: None, entries_max: 1 });
        } else {
            publishes.insert(ticket.0);
            let messages = vec![Draft::new("", MESSAGE.as_bytes().to_vec())];
            client.broker.command(Command::Publish(Publish { ticket, scope, messages, replicated: false }));
        }
    }
    while !(reads.is_empty() && publishes.is_empty() && losses.is_empty()) {
        match client.next().await {
            Event::History { ticket, result } => assert!(result.is_ok() && reads.remove(&ticket.0), "{ticket:?}"),
            Event::LossNoted { ticket, result } => assert!(result.is_ok() && losses.remove(&ticket.0), "{ticket:?}"),
            Event::Published { ticket, result } => assert!(result.is_ok() && publishes.remove(&ticket.0), "{ticket:?}"),
            event => panic!("{event:?}"),
        }
    }
    let mut rest = 0;
    for scope in &scopes {
        rest += client.read(scope, None, 1).await.top.offset;
    }
    assert_eq!(rest, 150, "each publish was carried out once, and nothing is answered twice");
}

async fn a_dropped_future_loses_nothing<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    listener.subscribe(&scope).await;
    let (mut received, mut dropped) = (Vec::new(), 0);
    for _ in 0..100 {
        publisher.publish(&scope, &[("", MESSAGE)]).await;
        // The future is polled once and then dropped, at whatever point it has reached.
        for _ in 0..3 {
            match timeout(Duration::ZERO, listener.broker.next_event()).await {
                Ok(Event::Message { scope, envelope }) => received.extend(items(&scope, &envelope)),
                Ok(event) => panic!("{event:?}"),
                Err(_) => dropped += 1,
            }
        }
    }
    assert!(dropped > 0, "some futures were dropped");
    let missing = 100 - received.len();
    received.extend(listener.receive_many(missing).await);
    assert_eq!(offsets(&received), (1..=100).collect::<Vec<_>>());
}

async fn a_listener_that_waits_is_woken<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    listener.subscribe(&scope).await;
    for offset in 1..=20 {
        // The listener is polled first, so that it waits before there is an event.
        let (received, last) = tokio::join!(biased; listener.receive(), publisher.publish(&scope, &[("", MESSAGE)]));
        assert_eq!((received.position, last.offset), (last, offset));
    }
}

async fn a_burst_is_available_without_waiting<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    listener.subscribe(&scope).await;
    for _ in 0..50 {
        publisher.publish(&scope, &[("", MESSAGE)]).await;
    }
    // Everything has been published: once one message has arrived, only further bytes may have to be awaited.
    let (mut received, mut waits) = (Vec::new(), 0);
    while received.len() < 50 {
        let event = match listener.broker.try_next_event() {
            Some(event) => event,
            None => {
                waits += 1;
                listener.next().await
            }
        };
        match event {
            Event::Message { scope, envelope } => received.extend(items(&scope, &envelope)),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(offsets(&received), (1..=50).collect::<Vec<_>>());
    assert!(waits < 25, "{waits} of 50 messages had to be waited for");
    assert!(listener.broker.try_next_event().is_none());
}

async fn a_store_that_lost_everything_does_not_know_its_positions<C: Cluster>() {
    let mut cluster = C::start(&Policies::default());
    let scope = scope("acme/user:1");
    let mut client = TestClient::up(cluster.broker()).await;
    let last = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    drop(client);
    cluster.lose_everything();
    let mut client = TestClient::up(cluster.broker()).await;
    assert_eq!(judge(last, &client.read(&scope, Some(last), 10).await), Err(GapReason::UnknownPosition));
    // The same offsets again, but other positions.
    let again = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    assert_eq!(again.offset, last.offset);
    assert_eq!(judge(last, &client.read(&scope, Some(last), 10).await), Err(GapReason::UnknownPosition));
}

async fn stored_messages_are_not_recorded_as_lost<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let scope = scope("acme/user:1");
    let mut client = TestClient::up(cluster.broker()).await;
    let last = client.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
    // A position that was never stored is not recorded either.
    for position in [last, last.next(), Position::new(last.generation + 1, 1), Position::new(1, 1)] {
        client.note_loss(&scope, position).await;
    }
    let first = Position::new(last.generation, 1);
    assert_eq!(judge(first, &client.read(&scope, Some(first), 10).await), Ok(()));
    assert_eq!(client.publish(&scope, &[("", MESSAGE)]).await, last.next());
}

async fn an_empty_publish_is_refused<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut client = TestClient::up(cluster.broker()).await;
    let scope = scope("acme/user:1");
    assert!(matches!(client.try_publish(&scope, &[]).await, Err(BrokerError::Wrong(_))));
    let too_many = vec![("", MESSAGE); wire::BATCH_MESSAGES_MAX + 1];
    assert!(matches!(client.try_publish(&scope, &too_many).await, Err(BrokerError::Wrong(_))));
    assert_eq!(client.read(&scope, None, 1).await.top.offset, 0, "all or none");
    assert_eq!(client.publish(&scope, &too_many[1..]).await.offset, wire::BATCH_MESSAGES_MAX as u64);
}

async fn an_interruption_is_reported_and_nothing_is_subscribed_after_it<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut listener = TestClient::up(cluster.broker()).await;
    let (scope, fence) = (scope("acme/user:1"), scope("acme/user:2"));
    listener.subscribe(&scope).await;
    cluster.interrupt(&scope).await;
    listener.until(|event| matches!(event, Event::Down(_)).then_some(())).await;
    listener.until(|event| matches!(event, Event::Up).then_some(())).await;
    let mut publisher = TestClient::up(cluster.broker()).await;
    publisher.publish(&scope, &[("unsubscribed", MESSAGE)]).await;
    listener.subscribe(&fence).await;
    publisher.publish(&scope, &[("unsubscribed", MESSAGE)]).await;
    publisher.publish(&fence, &[("fence", MESSAGE)]).await;
    assert_ne!(listener.receive().await.topic, "unsubscribed");
    listener.subscribe(&scope).await;
    publisher.publish(&scope, &[("received", MESSAGE)]).await;
    assert_eq!(listener.receive().await.topic, "received");
}

async fn a_reset_broker_drops_messages_under_way_and_reconnects<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let mut listener = TestClient::up(cluster.broker()).await;
    let (scope, fence) = (scope("acme/user:1"), scope("acme/user:2"));
    listener.subscribe(&scope).await;
    let mut publisher = TestClient::up(cluster.broker()).await;
    publisher.publish(&scope, &[("stale", MESSAGE)]).await;
    // The listener has not polled since; a message waits for it.
    listener.broker.command(Command::Reset("the test says so".into()));
    let reason = listener.until(|event| if let Event::Down(reason) = event { Some(reason) } else { None }).await;
    assert_eq!(reason, "the test says so");
    listener.until(|event| matches!(event, Event::Up).then_some(())).await;
    listener.subscribe(&fence).await;
    publisher.publish(&scope, &[("unsubscribed", MESSAGE)]).await;
    publisher.publish(&fence, &[("fresh", MESSAGE)]).await;
    assert_eq!(listener.receive().await.topic, "fresh");
}

async fn tops_are_returned_in_the_requested_order<C: Cluster>() {
    let mut cluster = C::start(&policies(|policy| policy.history_entries_max = 0));
    let mut client = TestClient::up(cluster.broker()).await;
    let scopes = ["acme/user:1", "acme/user:unused", "acme/system", "other/user:1"].map(scope);
    let one = client.publish(&scopes[0], &[("", MESSAGE)]).await;
    let two = client.publish(&scopes[2], &[("", MESSAGE), ("", MESSAGE)]).await;
    assert_eq!(client.tops(&scopes).await, [Some(one), None, Some(two), None]);
    assert_eq!(client.tops(&scopes).await[1], None, "looking begins nothing");
    let begun = client.read(&scopes[1], None, 1).await.top;
    assert_eq!(client.tops(&scopes).await, [Some(one), Some(begun), Some(two), None]);
    cluster.lose_everything();
    let mut client = TestClient::up(cluster.broker()).await;
    assert_eq!(client.tops(&scopes).await, [None; 4]);
    assert_eq!(client.tops(&[]).await, []);
}

async fn a_second_subscribe_is_confirmed_after_all_earlier_messages<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let (mut publisher, mut listener) =
        (TestClient::up(cluster.broker()).await, TestClient::up(cluster.broker()).await);
    let scope = scope("acme/user:1");
    listener.subscribe(&scope).await;
    for round in 1..=20 {
        let last = publisher.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
        listener.subscribe(&scope).await;
        // They arrived before the confirmation, so nothing needs to be awaited.
        let received = listener.received();
        assert_eq!(received.last().map(|received| received.position), Some(last), "round {round}");
    }
    publisher.publish(&scope, &[("once", MESSAGE)]).await;
    publisher.publish(&scope, &[("more", MESSAGE)]).await;
    assert_eq!(listener.receive().await.topic, "once");
    assert_eq!(listener.receive().await.topic, "more", "a second subscribe does not duplicate messages");
    listener.broker.command(Command::Unsubscribe(scope.clone()));
    let fence = self::scope("acme/user:fence");
    listener.subscribe(&fence).await;
    publisher.publish(&scope, &[("unsubscribed", MESSAGE)]).await;
    publisher.publish(&fence, &[("fence", MESSAGE)]).await;
    assert_eq!(listener.receive().await.topic, "fence", "one unsubscribe ends it");
}
