//! Redis goes away and comes back: sockets stay, and what was published meanwhile arrives.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::{Families, TenantId};

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::receiver::{Kept, Receiver, Transport};
use test_support::{RedisCluster, RedisServer, SentinelSet};

/// Publishes as a backend would, without a gateway.
fn publish(redis: &RedisServer, n: u64) {
    let channel = Families::default().parse_channel(&TenantId::parse("acme").unwrap(), "collection:42:ops").unwrap();
    let keyspace = keyspace::Keyspace::default();
    let position: String = redis::cmd("FCALL")
        .arg("tidegate_publish")
        .arg(2)
        .arg(keyspace.stream(&channel.scope))
        .arg(keyspace.meta(&channel.scope))
        .arg(channel.topic())
        .arg(format!(r#"{{"type":"n","payload":{n}}}"#))
        .query(&mut redis.connect())
        .unwrap();
    assert!(position.contains('-'), "{position}");
}

over_both_transports!(
    the_instance_repairs_what_its_subscriber_missed,
    the_last_message_is_missed_by_nobody,
    a_failover_by_sentinels_loses_no_socket_and_no_message,
    a_slot_of_a_redis_cluster_moves_and_no_client_misses_anything,
);

async fn the_instance_repairs_what_its_subscriber_missed(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut client = Receiver::subscribed(transport, &fleet, 0, "alice", &["collection:42:*"]).await;
    publish(&redis, 0);
    assert_eq!(client.messages(1).await, [0]);
    for round in 1..4 {
        let killed: u64 =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut redis.connect()).unwrap();
        assert_eq!(killed, 1, "the fault happened");
        publish(&redis, round);
        assert_eq!(client.messages(1).await, [round]);
    }
}

/// The last message of a scope is stored, and lost on its way here while the link looks healthy: nothing follows it.
async fn the_last_message_is_missed_by_nobody(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let kept = Kept::nothing(transport, &token, &["collection:42:*"]);
    let mut client = kept.connect(fleet.gateway(0).listen_addr()).await;
    let subscribed = client.until_subscribed().await.remove(0);
    let begin: wire::Position = subscribed["position"].as_str().unwrap().parse().unwrap();
    publish(&redis, 0);
    assert_eq!(client.messages(1).await, [0]);
    let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    let keyspace = keyspace::Keyspace::default();
    let (stream, meta) = (keyspace.stream(&scope), keyspace.meta(&scope));
    let stored = wire::Position::new(begin.generation, begin.offset + 2).to_string();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut redis.connect()).unwrap();
    redis::pipe()
        .atomic()
        .cmd("XADD")
        .arg(&[&stream, &stored, "t", &(seconds * 1_000).to_string(), "c", "ops", "m", r#"{"type":"n","payload":1}"#])
        .cmd("HSET")
        .arg(&[&meta, "o", &(begin.offset + 2).to_string()])
        .exec(&mut redis.connect())
        .unwrap();
    assert_eq!(client.messages(1).await, [1]);
    publish(&redis, 2);
    assert_eq!(client.messages(1).await, [2]);
    while fleet.metric(0, "tidegate_check_repaired_total").await < 1.0 {
        tokio::time::sleep(Duration::from_millis(20)).await; // the sweep sets it
    }
    redis::cmd("DEL").arg(&[&stream, &meta]).exec(&mut redis.connect()).unwrap();
    let gap = client.expect("gap").await;
    assert_eq!((&gap["payload"]["reason"], &gap["payload"]["certain"]), (&"unknown_position".into(), &false.into()));
    publish(&redis, 3);
    assert_eq!(client.messages(1).await, [3]);
}

#[tokio::test]
async fn a_subscription_made_without_redis_is_confirmed_when_it_is_back() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:*", None).await;
    publish(&redis, 0);
    assert_eq!(client.messages(1).await.0, [0]);
    redis.crash();
    assert_eq!(client.expect("degraded").await["payload"]["degraded"], true);
    client.send_text(r#"{"type":"subscribe","channel":"collection:7:ops"}"#).await;
    assert_eq!(client.expect("subscribed").await["payload"]["degraded"], true);
    redis.restart();
    let confirmed = loop {
        let frame = client.next().await;
        match frame["type"].as_str().unwrap() {
            "subscribed" => break frame,
            "degraded" => {}
            _ => panic!("{frame}"),
        }
    };
    assert_eq!((&confirmed["channel"], &confirmed["payload"]["degraded"]), (&"collection:7:ops".into(), &false.into()));
    while client.publish("collection:42:ops", 2).await["type"] != "ack" {}
}

async fn a_failover_by_sentinels_loses_no_socket_and_no_message(transport: Transport) {
    let mut set = SentinelSet::start(&[]);
    let fleet = Fleet::start(2, Some(&set.url()), "");
    let mut alice = fleet.client(0, "alice").await;
    let mut bob = Receiver::subscribed(transport, &fleet, 1, "bob", &["collection:42:*"]).await;
    assert_eq!(alice.publish("collection:42:ops", 0).await["type"], "ack");
    set.servers[0].wait_until_copied_by(&set.servers[1]);
    set.expect_a_failure();
    set.servers[0].crash();
    while alice.publish("collection:42:ops", 1).await["payload"]["level"] != "durable" {
        // Slower than the limit of messages.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // By way of the new primary; a gap would not be a message.
    assert_eq!(bob.messages(2).await, [0, 1]);
}

/// The answer to a frame; what else the client is told meanwhile comes to `received`.
async fn answered(client: &mut Client, frame: &Value, received: &mut Vec<Value>) -> Value {
    client.send_text(&frame.to_string()).await;
    loop {
        let frame = client.next().await;
        if frame["type"] == "ack" || frame["type"] == "error" {
            return frame;
        }
        received.push(frame);
    }
}

/// The same for a publish that is said again until Redis has it.
async fn stored(client: &mut Client, publish: &Value, received: &mut Vec<Value>) -> Value {
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = answered(client, publish, received).await;
        if answer["payload"]["level"] == "durable" {
            return answer;
        }
        assert!(Instant::now() < until, "{answer}");
        // Slower than the limit of messages.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The answer to a publish is lost with the connection; the client says it again, and it is there once.
#[tokio::test]
async fn a_publish_of_unknown_outcome_is_stored_once_when_it_is_repeated() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:*", None).await;
    let mut outcomes = Vec::new();
    for n in 0..4u64 {
        let publish = json!({ "type": "publish", "channel": "collection:42:ops", "event": "n", "id": format!("order-{n}"), "payload": n });
        let mut received = Vec::new();
        redis.freeze();
        let answer = answered(&mut client, &publish, &mut received).await;
        assert_eq!(answer["payload"]["code"], "unknown", "{answer}");
        assert!(answer["payload"]["message"].as_str().unwrap().contains("the same id"), "{answer}");
        redis.thaw();
        let ack = stored(&mut client, &publish, &mut received).await;
        // Behind whatever the first attempt has left.
        let fence = json!({ "type": "publish", "channel": "collection:42:x", "event": "fence", "payload": n });
        let fence = stored(&mut client, &fence, &mut received).await["position"].clone();
        while !received.iter().any(|frame| frame["position"] == fence) {
            received.push(client.next().await);
        }
        let received: Vec<_> =
            received.iter().filter(|frame| frame["type"] == "n").map(|frame| &frame["payload"]).collect();
        assert_eq!(received, [&json!(n)], "{ack}");
        outcomes.push(ack["payload"]["duplicate"] == true);
    }
    assert!(fleet.metric(0, "tidegate_publish_unknown_total").await >= 4.0);
    assert!(outcomes.contains(&true), "the first attempt was stored at least once: {outcomes:?}");
}

async fn a_slot_of_a_redis_cluster_moves_and_no_client_misses_anything(transport: Transport) {
    let redis = RedisCluster::start();
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut alice = fleet.client(0, "alice").await;
    let mut bob = Receiver::subscribed(transport, &fleet, 1, "bob", &["collection:42:*"]).await;
    let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    let slot = keyspace::Keyspace::default().slot(&scope).number();
    let mut owner = (0..3).find(|index| RedisCluster::slots_of(*index).contains(&slot)).unwrap();
    let mut published = 0;
    for _ in 0..3 {
        let other = (owner + 1) % 3;
        for step in 0..4 {
            assert_eq!(alice.publish("collection:42:ops", published).await["payload"]["level"], "durable");
            published += 1;
            match step {
                0 => redis.begin_move(slot, owner, other),
                1 => drop(redis.move_keys(slot, owner, other)),
                2 => redis.end_move(slot, owner, other),
                _ => {}
            }
        }
        owner = other;
    }
    // A gap would not be a message.
    assert_eq!(bob.messages(12).await, (0..12).collect::<Vec<u64>>());
}
