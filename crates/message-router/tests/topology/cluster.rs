//! The broker on a Redis Cluster: slots that move, calls that are redirected, nodes that die.

use keyspace::Keyspace;
use message_router::{BrokerError, judge};
use test_support::RedisCluster;
use wire::{Position, Scope};

use super::subscriber::RecordingSubscriber;
use super::{config, eventually, scope};

/// Scopes whose slots belong to this primary, each in another slot.
fn scopes_at(primary: usize, count: usize) -> Vec<Scope> {
    let slots = RedisCluster::slots_of(primary);
    let all = (0..).map(|number| scope(&format!("acme/collection:{number}")));
    all.filter(|scope| slots.contains(&slot(scope))).take(count).collect()
}

fn slot(scope: &Scope) -> u16 {
    Keyspace::default().slot(scope).number()
}

/// Asserts that exactly the published messages can be read, in order, after the position before the first one.
async fn nothing_is_missing(subscriber: &mut RecordingSubscriber, scope: &Scope, published: &[Position]) {
    let first = Position::new(published[0].generation, published[0].offset - 1);
    let history = subscriber.read(scope, first).await;
    assert_eq!(judge(first, &history), Ok(()), "{history:?}");
    let kept: Vec<_> = history.entries.iter().map(|entry| entry.position).collect();
    assert_eq!(kept, published);
}

#[tokio::test]
async fn scopes_of_all_nodes_are_received_and_read() {
    let cluster = RedisCluster::start();
    let (mut publisher, mut subscriber) =
        (RecordingSubscriber::up(config(&cluster.url())).await, RecordingSubscriber::up(config(&cluster.url())).await);
    let scopes: Vec<Scope> = (0..3).flat_map(|primary| scopes_at(primary, 20)).collect();
    for scope in &scopes {
        subscriber.subscribe(scope).await;
        let position = publisher.publish(scope).await;
        subscriber.receive(scope, position).await;
        nothing_is_missing(&mut subscriber, scope, &[position]).await;
    }
    assert_eq!(subscriber.received.len(), scopes.len(), "none twice");
    // An unsubscribed scope is silent, the others are not.
    subscriber.unsubscribe(&scopes[0]);
    subscriber.subscribe(&scopes[0]).await;
    subscriber.unsubscribe(&scopes[0]);
    subscriber.subscribe(&scopes[1]).await;
    publisher.publish(&scopes[0]).await;
    let last = publisher.publish(&scopes[1]).await;
    subscriber.receive(&scopes[1], last).await;
    assert_eq!(subscriber.count(&scopes[0]), 1);
    assert_eq!((subscriber.lost.len(), subscriber.downs.len()), (0, 0));
}

/// As managed services and NAT do it: the servers know addresses that clients cannot reach.
#[tokio::test]
async fn servers_are_reached_as_they_want_to_be_reached() {
    // 192.0.2.0/24 is nobody's address (RFC 5737).
    let unreachable = ["--cluster-announce-ip", "192.0.2.1"];
    let named = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    let nameless = ["--cluster-preferred-endpoint-type", "hostname"];
    let unknown = ["--cluster-preferred-endpoint-type", "unknown-endpoint"];
    for endpoint in [&named[..], &nameless, &unknown] {
        let cluster = RedisCluster::start_alone(&[&unreachable[..], endpoint].concat());
        let mut client = RecordingSubscriber::up(config(&cluster.url())).await;
        let scope = &scopes_at(0, 1)[0];
        client.subscribe(scope).await;
        let position = client.publish(scope).await;
        client.receive(scope, position).await;
    }
}

#[tokio::test]
async fn scopes_follow_a_moving_slot_under_load() {
    let cluster = RedisCluster::start();
    let (mut publisher, mut subscriber) =
        (RecordingSubscriber::up(config(&cluster.url())).await, RecordingSubscriber::up(config(&cluster.url())).await);
    let [moving, staying] = &scopes_at(0, 2)[..] else { panic!("two were asked for") };
    for scope in [moving, staying] {
        subscriber.subscribe(scope).await;
    }
    let mut published = vec![publisher.publish(moving).await];
    for (round, (from, to)) in [(0, 1), (1, 2), (2, 0)].into_iter().enumerate() {
        // Publishes are under way when the slot begins to move; later ones wait in the queue.
        let mut tickets: Vec<u64> = (0..20).map(|_| publisher.send(moving)).collect();
        cluster.begin_move(slot(moving), from, to);
        tickets.extend((0..20).map(|_| publisher.send(moving)));
        publisher.listen(std::time::Duration::from_millis(30)).await;
        assert!(cluster.move_keys(slot(moving), from, to) >= 2, "a stream and its metadata");
        // The keys have moved and the slot has not: both nodes may be asked for the keys.
        tickets.extend((0..20).map(|_| publisher.send(moving)));
        publisher.listen(std::time::Duration::from_millis(30)).await;
        cluster.end_move(slot(moving), from, to);
        tickets.extend((0..20).map(|_| publisher.send(moving)));
        publisher
            .until("answers", |subscriber| tickets.iter().all(|ticket| subscriber.published.contains_key(ticket)))
            .await;
        // None is refused, and their order is kept.
        published.extend(tickets.iter().map(|ticket| publisher.published[ticket].clone().unwrap()));
        subscriber.until("lost", |subscriber| subscriber.lost.len() == round + 1).await;
        assert_eq!(subscriber.lost[round], *moving);
        subscriber.until("subscribed again", |subscriber| subscriber.confirmed.len() == round + 3).await;
        let last = publisher.publish(moving).await;
        published.push(last);
        subscriber.receive(moving, last).await;
    }
    assert!(published.is_sorted(), "{published:?}");
    nothing_is_missing(&mut subscriber, moving, &published).await;
    let other = publisher.publish(staying).await;
    subscriber.receive(staying, other).await;
    assert_eq!((subscriber.downs.len(), publisher.downs.len()), (0, 0), "a move is not an outage");
}

#[tokio::test]
async fn a_key_of_a_half_moved_slot_is_found_at_its_new_node() {
    let cluster = RedisCluster::start();
    let mut subscriber = RecordingSubscriber::up(config(&cluster.url())).await;
    let moving = &scopes_at(0, 1)[0];
    let first = subscriber.publish(moving).await;
    cluster.begin_move(slot(moving), 0, 1);
    cluster.move_keys(slot(moving), 0, 1);
    let asked = |node: usize| cluster.primaries[node].info("cmdstat_asking").is_some();
    assert!(!asked(1));
    // The slot still belongs to the first node, which therefore gets the next call; the key has moved already.
    let second = subscriber.publish(moving).await;
    assert!(second > first && asked(1));
    let third = subscriber.publish(moving).await;
    nothing_is_missing(&mut subscriber, moving, &[first, second, third]).await;
    cluster.end_move(slot(moving), 0, 1);
    let fourth = subscriber.publish(moving).await;
    assert_eq!(fourth, third.next());
}

#[tokio::test]
async fn a_dead_node_loses_only_its_own_scopes_and_its_replica_serves_them_again() {
    let mut cluster = RedisCluster::start_with_replica();
    let mut subscriber = RecordingSubscriber::up(config(&cluster.url())).await;
    let ([dying], [living]) = (&scopes_at(0, 1)[..], &scopes_at(1, 1)[..]) else { panic!("one of each") };
    for scope in [dying, living] {
        subscriber.subscribe(scope).await;
    }
    let before = subscriber.publish(dying).await;
    cluster.primaries[0].wait_until_copied_by(&cluster.replicas[0]);
    cluster.expect_a_failure();
    cluster.primaries[0].crash();
    subscriber.until("lost", |subscriber| !subscriber.lost.is_empty()).await;
    assert_eq!(subscriber.lost.iter().collect::<Vec<_>>(), [dying]);
    let refused = subscriber.try_publish(dying).await;
    assert!(refused.is_err(), "{refused:?}");
    let position = subscriber.publish(living).await;
    subscriber.receive(living, position).await;

    subscriber.until("subscribed again", |subscriber| subscriber.confirmed.len() == 3).await;
    let after = subscriber.publish(dying).await;
    assert!(after.generation > before.generation, "{before} then {after}");
    subscriber.receive(dying, after).await;
    let history = subscriber.read(dying, before).await;
    assert_eq!(judge(before, &history), Ok(()), "{history:?}");
    assert!(subscriber.downs.is_empty(), "{:?}", subscriber.downs);
    eventually("a primary", || cluster.replicas[0].info("role").as_deref() == Some("master")).await;
}

#[tokio::test]
async fn a_node_without_the_library_gets_it_and_a_wrong_url_is_explained() {
    let cluster = RedisCluster::start();
    let mut subscriber = RecordingSubscriber::up(config(&cluster.url())).await;
    let scope = &scopes_at(2, 1)[0];
    subscriber.publish(scope).await;
    cluster.primaries[2].command::<()>(&["FUNCTION", "FLUSH"]);
    subscriber.try_publish(scope).await.unwrap();

    let mut misled = RecordingSubscriber::new(config(&cluster.primaries[0].url()));
    misled.until("down", |subscriber| !subscriber.downs.is_empty()).await;
    assert!(misled.downs[0].contains("is a node of a cluster: write redis+cluster://"), "{:?}", misled.downs);
    let server = test_support::RedisServer::start(&[]);
    let mut misled = RecordingSubscriber::new(config(&format!("redis+cluster://127.0.0.1:{}", server.port())));
    misled.until("down", |subscriber| !subscriber.downs.is_empty()).await;
    assert!(misled.downs[0].contains("cluster support disabled"), "{:?}", misled.downs);
}

#[tokio::test]
async fn the_slot_of_the_probe_may_move_as_well() {
    let cluster = RedisCluster::start();
    let mut subscriber = RecordingSubscriber::up(config(&cluster.url())).await;
    let scopes: Vec<Scope> = (0..3).flat_map(|primary| scopes_at(primary, 1)).collect();
    for scope in &scopes {
        subscriber.subscribe(scope).await;
    }
    let channels: Vec<String> = cluster.primaries[1].command(&["PUBSUB", "SHARDCHANNELS", "*:probe:*"]);
    let [probe] = &channels[..] else { panic!("one probe to a node: {channels:?}") };
    cluster.move_slot(keyspace::Slot::of(probe).number(), 1, 2);
    subscriber.until("subscribed again", |subscriber| subscriber.confirmed.len() == 4).await;
    assert_eq!(subscriber.lost, scopes[1..2]);
    assert!(subscriber.downs.is_empty(), "{:?}", subscriber.downs);
    for scope in &scopes {
        let position = subscriber.publish(scope).await;
        subscriber.receive(scope, position).await;
    }
}

#[tokio::test]
async fn the_documented_rights_are_enough_on_a_cluster() {
    let cluster = RedisCluster::start();
    let page = include_str!("../../../../docs/redis.md");
    for line in page.lines().filter(|line| line.starts_with("ACL SETUSER gateway ")) {
        for node in cluster.nodes() {
            let line = line.replace("PASSWORD", "secret");
            node.command::<()>(&line.split(' ').collect::<Vec<_>>());
        }
    }
    let url = cluster.url().replace("://", "://gateway:secret@");
    let mut subscriber = RecordingSubscriber::up(config(&url)).await;
    for scope in (0..3).flat_map(|primary| scopes_at(primary, 1)) {
        subscriber.subscribe(&scope).await;
        let position = subscriber.publish(&scope).await;
        subscriber.receive(&scope, position).await;
        nothing_is_missing(&mut subscriber, &scope, &[position]).await;
        subscriber.unsubscribe(&scope);
        subscriber.subscribe(&scope).await;
    }
    let moving = &scopes_at(0, 1)[0];
    cluster.begin_move(slot(moving), 0, 1);
    cluster.move_keys(slot(moving), 0, 1);
    subscriber.publish(moving).await;
    cluster.end_move(slot(moving), 0, 1);
    subscriber.publish(moving).await;
    for node in cluster.nodes() {
        let log: Vec<redis::Value> = node.command(&["ACL", "LOG"]);
        assert!(log.is_empty(), "{log:?}");
    }
}

/// The sockets of the node stay open, so only the probe on its own channel notices it. No replica takes its place.
#[tokio::test]
async fn a_node_that_falls_silent_is_noticed_by_its_own_probe_and_comes_back() {
    let cluster = RedisCluster::start();
    let mut probing = config(&cluster.url());
    probing.probe_interval_ms = 1_000;
    let mut subscriber = RecordingSubscriber::up(probing).await;
    let ([silent], [living]) = (&scopes_at(0, 1)[..], &scopes_at(1, 1)[..]) else { panic!("one of each") };
    for scope in [silent, living] {
        subscriber.subscribe(scope).await;
    }
    let before = subscriber.publish(silent).await;
    cluster.primaries[0].freeze();
    subscriber.until("lost", |subscriber| !subscriber.lost.is_empty()).await;
    let refused = subscriber.try_publish(silent).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable(_))), "{refused:?}");
    for _ in 0..20 {
        let position = subscriber.publish(living).await;
        subscriber.receive(living, position).await;
    }
    assert_eq!(subscriber.lost.iter().collect::<Vec<_>>(), [silent]);
    cluster.primaries[0].thaw();
    subscriber.until("subscribed again", |subscriber| subscriber.confirmed.len() == 3).await;
    let after = subscriber.publish(silent).await;
    assert_eq!(after, before.next(), "it lost nothing");
    subscriber.receive(silent, after).await;
    assert!(subscriber.downs.is_empty(), "{:?}", subscriber.downs);
}
