//! A notice reaches a user wherever connected, and nobody else.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::RedisServer;

use crate::cli::{ask, listed};
use crate::client::Client;
use crate::fleet::Fleet;

/// Who waits for a heartbeat instead of the wake-up is late by far.
const SLOW_HEARTBEAT: &str = "[registry]\nheartbeat_interval_ms = 60000\nlease_ms = 300000\nreap_ms = 400000\n";

/// A client that has subscribed nothing.
async fn connect(fleet: &Fleet, index: usize, tenant: &str, user: &str) -> Client {
    let token = fleet.token(tenant, user, &["system:*"]);
    let mut client = Client::connect(fleet.gateway(index).listen_addr(), "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client
}

/// The next frame but for those that tell of an instance's beginning.
async fn next(client: &mut Client) -> serde_json::Value {
    loop {
        let frame = client.next().await;
        if frame["type"] != "degraded" {
            return frame;
        }
    }
}

/// Nothing has come: the answer to a ping is the next frame.
async fn receives_nothing(client: &mut Client) {
    client.send_text(r#"{"type":"ping"}"#).await;
    assert_eq!(next(client).await["type"], "pong");
}

#[tokio::test]
async fn a_notice_reaches_all_connections_of_a_user_at_once() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(3, Some(&redis.url()), SLOW_HEARTBEAT);
    let mut hers = [
        connect(&fleet, 0, "acme", "alice").await,
        connect(&fleet, 0, "acme", "alice").await,
        connect(&fleet, 1, "acme", "alice").await,
    ];
    let mut others = [
        connect(&fleet, 0, "acme", "bob").await,
        connect(&fleet, 1, "other", "alice").await,
        connect(&fleet, 2, "other", "alice").await,
    ];
    let lines = listed(&redis, "alice", 3).await;
    let began = Instant::now();
    for minutes in [5, 4, 3] {
        let payload = json!({ "minutes": minutes });
        let (printed, code) = ask("send", &redis, &["--event", "maintenance", "alice", &payload.to_string()]);
        assert_eq!((printed, code), (lines.clone(), 0), "it says to which connections");
        let notice = json!({ "type": "notice", "payload": { "event": "maintenance", "payload": payload } });
        for client in &mut hers {
            assert_eq!(next(client).await, notice);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(60), "no heartbeat was waited for: {:?}", began.elapsed());

    // Several come in their order, and to one connection alone if that is wanted.
    let session = lines.iter().find(|line| line.ends_with("gw-1")).unwrap().split(' ').nth(1).unwrap();
    for n in 0..5 {
        let (printed, code) = ask("send", &redis, &["alice", "--session", session, &n.to_string()]);
        assert_eq!((printed.len(), code), (1, 0));
    }
    for n in 0..5 {
        assert_eq!(next(&mut hers[2]).await["payload"], json!({ "event": "message", "payload": n }));
    }
    for client in hers.iter_mut().chain(&mut others) {
        receives_nothing(client).await;
    }
}

#[tokio::test]
async fn a_notice_for_nobody_says_so() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut elsewhere = connect(&fleet, 0, "other", "alice").await;
    let mut bob = connect(&fleet, 0, "acme", "bob").await;
    let bobs = listed(&redis, "bob", 1).await;
    assert_eq!(ask("send", &redis, &["alice", "1"]), (vec![], 1), "a user of this name is another tenant's");
    let session = bobs[0].split(' ').nth(1).unwrap();
    assert_eq!(ask("send", &redis, &["alice", "1", "--session", session]).1, 1, "nor is it by his session hers");
    assert_eq!(ask("send", &redis, &["bob", "{"]).1, 65);
    assert_eq!(ask("send", &redis, &["bob", "--event", "welcome"]).1, 65, "a control frame's name");
    assert_eq!(ask("send", &redis, &["bob", &format!("\"{}\"", "x".repeat(16 * 1024))]).1, 65, "too long");
    for client in [&mut elsewhere, &mut bob] {
        receives_nothing(client).await;
    }
}

#[tokio::test]
async fn what_is_no_notice_costs_no_lease() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut alice = connect(&fleet, 0, "acme", "alice").await;
    listed(&redis, "alice", 1).await;
    let mut connection = redis.connect_async().await;
    let mut call = redis::cmd("FCALL");
    call.arg("tidegate_registry_send").arg(1).arg(keyspace::Keyspace::default().peers());
    let _: Vec<String> = call.arg("acme/alice").arg("").arg("{").query_async(&mut connection).await.unwrap();
    assert_eq!(ask("send", &redis, &["alice", "1"]).1, 0);
    assert_eq!(next(&mut alice).await["payload"]["payload"], 1);
}
