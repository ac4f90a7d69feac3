//! A message reaches everybody who wants it, on any instance, in order, and nobody else.

use std::time::{Duration, Instant};

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::receiver::{Receiver, Transport};
use test_support::RedisServer;

over_both_transports!(
    three_instances_deliver_each_others_messages_in_order,
    a_message_published_again_under_its_id_is_delivered_once,
    a_killed_instances_clients_resume_elsewhere_with_nothing_missing_and_nothing_twice,
    a_first_message_is_delivered_to_a_client_that_was_away,
    one_process_alone_serves_without_redis,
);

async fn three_instances_deliver_each_others_messages_in_order(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(3, Some(&redis.url()), "");
    let mut clients = Vec::new();
    for index in 0..6 {
        let channel = ["collection:42:ops", "collection:42:*"][index % 2];
        clients.push(Receiver::subscribed(transport, &fleet, index % 3, "alice", &[channel]).await);
    }
    let mut publisher = fleet.client(0, "worker").await;
    for n in 0..50 {
        assert_eq!(publisher.publish("collection:42:ops", n).await["type"], "ack");
        publisher.publish("collection:43:ops", 1_000 + n).await;
    }
    let expected: Vec<u64> = (0..50).collect();
    let mut last = Vec::new();
    for client in &mut clients {
        assert_eq!(client.messages(49).await, expected[..49]);
        let frame = client.expect("n").await;
        assert_eq!(frame["payload"], 49);
        last.push(frame["position"].clone());
    }
    assert!(last.iter().all(|position| *position == last[0]), "one position for one message: {last:?}");
}

async fn a_message_published_again_under_its_id_is_delivered_once(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut reader = Receiver::subscribed(transport, &fleet, 0, "reader", &["collection:42:ops"]).await;
    let publish = async |index: usize, user: &str, id: &str, n: u64| {
        // Another connection each time: the id is the user's, not the connection's.
        let mut client = fleet.client(index, user).await;
        client
            .send_text(&format!(
                r#"{{"type":"publish","channel":"collection:42:ops","event":"n","id":"{id}","payload":{n}}}"#
            ))
            .await;
        loop {
            let frame = client.next().await;
            if frame["type"] != "degraded" {
                assert_eq!(frame["type"], "ack", "{frame}");
                break (frame["position"].clone(), frame["payload"].get("duplicate").cloned());
            }
        }
    };
    let (first, duplicate) = publish(0, "alice", "a", 1).await;
    assert_eq!(duplicate, None);
    assert_eq!(publish(1, "alice", "a", 2).await, (first.clone(), Some(true.into())), "on another instance");
    let (other, duplicate) = publish(1, "bob", "a", 3).await;
    assert!(other != first && duplicate.is_none(), "what another user calls the same is another message");
    publish(0, "alice", "b", 4).await;
    assert_eq!(reader.messages(3).await, [1, 3, 4]);
    assert_eq!(fleet.metric(1, "tidegate_publish_duplicates_total").await, 1.0);
}

#[tokio::test]
async fn an_ack_says_replicated_when_a_replica_has_it() {
    let redis = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let settings = "[[families]]\nname = \"collection\"\nacknowledge = \"replicated\"\n";
    let fleet = Fleet::start(1, Some(&redis.url()), settings);
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:ops", None).await;
    let level = |ack: &serde_json::Value| ack["payload"]["level"].as_str().unwrap().to_owned();
    assert_eq!(level(&client.publish("collection:42:ops", 0).await), "durable", "nobody else has it");
    let port = redis.port().to_string();
    let _replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let (mut n, until) = (1, Instant::now() + DEADLINE);
    while level(&client.publish("collection:42:ops", n).await) != "replicated" {
        n += 1;
        assert!(Instant::now() < until, "the replica has it, and nobody says so");
        // Slower than the limit of messages.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(level(&client.publish("user:alice:x", 0).await), "durable", "its family does not ask");
}

#[tokio::test]
async fn two_tenants_with_the_same_user_never_meet() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut clients = Vec::new();
    for (tenant, index) in [("acme", 0), ("globex", 1)] {
        let token = fleet.token(tenant, "42", &["collection:*"]);
        let path = format!("/ws/{tenant}");
        let mut client = Client::connect(fleet.gateway(index).listen_addr(), &path, Some(&token)).await;
        client.expect("welcome").await;
        client.subscribe("user:42:inbox", None).await;
        client.subscribe("collection:7:ops", None).await;
        clients.push(client);
    }
    for (client, n) in clients.iter_mut().zip([100, 200]) {
        client.send_text(&format!(r#"{{"type":"publish","channel":"user:42:inbox","event":"n","payload":{n}}}"#)).await;
        client
            .send_text(&format!(r#"{{"type":"publish","channel":"collection:7:ops","event":"n","payload":{}}}"#, n + 1))
            .await;
    }
    for (client, n) in clients.iter_mut().zip([100, 200]) {
        let mut received = Vec::new();
        while received.len() < 2 {
            let frame = client.next().await;
            if frame["type"] == "n" {
                received.push(frame["payload"].as_u64().unwrap());
            }
        }
        assert_eq!(received, [n, n + 1]);
        // Whatever the other tenant's messages did would come before the answer to this.
        client.send_text(r#"{"type":"ping","correlation_id":"last"}"#).await;
        loop {
            let frame = client.next().await;
            match frame["type"].as_str().unwrap() {
                "pong" => break,
                "ack" => {}
                _ => panic!("another tenant's message: {frame}"),
            }
        }
    }
    let token = fleet.token("globex", "42", &[]);
    let mut stranger = Client::connect(fleet.gateway(0).listen_addr(), "/ws/acme", Some(&token)).await;
    assert_eq!(stranger.expect("error").await["payload"]["code"], "wrong_identity");
    stranger.expect("bye").await;
    assert_eq!(stranger.expect("close").await["code"], 4501);
}

async fn a_killed_instances_clients_resume_elsewhere_with_nothing_missing_and_nothing_twice(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let settings = "[limits]\nmessages_per_second = 100000\nmessages_burst = 100000\n";
    let mut fleet = Fleet::start(2, Some(&redis.url()), settings);
    let mut publisher = fleet.client(1, "worker").await;
    let mut client = Receiver::subscribed(transport, &fleet, 0, "alice", &["collection:42:*"]).await;
    let mut next = 0;
    for _ in 0..5 {
        publisher.publish("collection:42:ops", next).await;
        next += 1;
    }
    assert_eq!(client.messages(5).await, [0, 1, 2, 3, 4]);
    let mut kept = client.kept();
    fleet.kill(0);
    // More than a page of history.
    for _ in 0..700 {
        let frame = format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"n","payload":{next}}}"#);
        publisher.send_text(&frame).await;
        next += 1;
    }
    publisher.publish("collection:43:ops", 0).await;
    let mut expected = 5;
    for round in 0..3 {
        let mut client = kept.connect(fleet.gateway(1).listen_addr()).await;
        let subscribed = client.until_subscribed().await;
        assert_eq!(subscribed[0]["payload"]["resumed"], true, "round {round}: {subscribed:?}");
        let rest = usize::try_from(next - expected).unwrap();
        let received = client.messages(rest).await;
        assert!(received.iter().copied().eq(expected..next), "round {round}: {received:?}");
        kept = client.kept();
        expected = next;
        publisher.publish("collection:42:ops", next).await;
        next += 1;
    }
}

/// The client leaves before anything was published. Within the hour for which such a scope is kept it gets the message
/// that it missed; when the scope has been forgotten it is told.
async fn a_first_message_is_delivered_to_a_client_that_was_away(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let hour_ms = i64::try_from(keyspace::Keyspace::UNUSED_KEPT_MS).unwrap();
    let meta = |id: u8| format!("tidegate:{{acme/collection:{id}}}:meta");
    let kept_ms = |id| redis::cmd("PTTL").arg(meta(id)).query::<i64>(&mut redis.connect()).unwrap();
    let leaves = async |id| {
        let channel = format!("collection:{id}:*");
        let client = Receiver::subscribed(transport, &fleet, 0, "alice", &[&channel]).await;
        assert!((hour_ms - 60_000..=hour_ms).contains(&kept_ms(id)), "{} ms", kept_ms(id));
        client.kept()
    };
    let mut publisher = fleet.client(1, "worker").await;
    let kept = leaves(1).await;
    assert_eq!(publisher.publish("collection:1:ops", 1).await["type"], "ack");
    let mut back = kept.connect(fleet.gateway(1).listen_addr()).await;
    back.until_subscribed().await;
    assert_eq!(back.messages(1).await, [1]);
    assert!(kept_ms(1) > 7 * 24 * hour_ms, "a scope with a message: {} ms", kept_ms(1));

    let kept = leaves(2).await;
    redis::cmd("PEXPIRE").arg(meta(2)).arg(1).exec(&mut redis.connect()).unwrap();
    while kept_ms(2) != -2 {}
    assert_eq!(publisher.publish("collection:2:ops", 2).await["type"], "ack");
    let mut back = kept.connect(fleet.gateway(1).listen_addr()).await;
    back.until_subscribed().await;
    assert_eq!(back.expect("gap").await["payload"]["reason"], "unknown_position");
    assert_eq!(publisher.publish("collection:2:ops", 3).await["type"], "ack");
    assert_eq!(back.messages(1).await, [3]);
}

async fn one_process_alone_serves_without_redis(transport: Transport) {
    let fleet = Fleet::start(1, None, "");
    let mut publisher = fleet.client(0, "worker").await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Receiver::subscribed(transport, &fleet, 0, "alice", &["system:news"]).await);
    }
    for n in 0..10 {
        assert_eq!(publisher.publish("system:news", n).await["payload"]["level"], "durable");
    }
    for client in &mut clients {
        assert_eq!(client.messages(10).await, (0..10).collect::<Vec<_>>());
    }
}
