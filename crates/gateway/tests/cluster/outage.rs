//! Redis goes away and comes back: sockets stay, and what was published meanwhile arrives.

use wire::{Families, TenantId};

use crate::fleet::Fleet;
use redis_fixture::RedisServer;

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

#[tokio::test]
async fn the_instance_repairs_what_its_subscriber_missed() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:*", None).await;
    publish(&redis, 0);
    assert_eq!(client.messages(1).await.0, [0]);
    for round in 1..4 {
        let killed: u64 =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut redis.connect()).unwrap();
        assert_eq!(killed, 1, "the fault happened");
        publish(&redis, round);
        assert_eq!(client.messages(1).await.0, [round]);
    }
}

#[tokio::test]
async fn without_redis_publishes_are_refused_and_with_it_they_go_on() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:*", None).await;
    publish(&redis, 0);
    assert_eq!(client.messages(1).await.0, [0]);
    redis.crash();
    assert_eq!(client.expect("degraded").await["payload"]["degraded"], true);
    let refused = client.publish("collection:42:ops", 1).await;
    assert_eq!((&refused["payload"]["code"], &refused["payload"]["retryable"]), (&"unavailable".into(), &true.into()));
    client.say(r#"{"type":"subscribe","channel":"collection:7:ops"}"#).await;
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
