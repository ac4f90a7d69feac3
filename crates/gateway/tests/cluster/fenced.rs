//! A process that is stopped for longer than its lease, and goes on: what it has in hand is nobody's any more.

use std::time::{Duration, Instant};

use keyspace::Keyspace;
use test_support::RedisServer;
use wire::InstanceId;

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::process::{Process, is, number};

/// Long enough for a busy machine to keep the lease, short enough to wait for its end.
const HEARTBEAT_MS: u64 = 1_500;
const LEASE_MS: u64 = 6_000;

/// A gateway in a process of its own, named `sleeper`.
fn sleeper(redis: &RedisServer) -> Process {
    let registry =
        [("heartbeat_interval_ms", HEARTBEAT_MS), ("lease_ms", LEASE_MS), ("reap_ms", LEASE_MS + HEARTBEAT_MS)];
    let registry = registry.map(|(key, ms)| format!("registry.{key}={ms}"));
    // Silence for as long as it sleeps is no reason to think the link dead.
    let mut settings = vec!["instance=sleeper", "shards=2", "redis.probe_interval_ms=60000"];
    settings.push("redis.reply_deadline_ms=30000");
    settings.extend(registry.iter().map(String::as_str));
    Process::start(&settings, Some(&redis.url()))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Who holds an instance's lease, by its token.
fn lease(redis: &RedisServer, instance: &str) -> Option<String> {
    redis::cmd("GET").arg(lease_key(instance)).query(&mut redis.connect()).unwrap()
}

fn lease_key(instance: &str) -> String {
    Keyspace::default().lease(&InstanceId::parse(instance).unwrap())
}

/// The client is sent elsewhere, and nothing else.
async fn expect_move(client: &mut Client) {
    let frames = [client.next().await, client.next().await, client.next().await];
    assert_eq!(
        frames.each_ref().map(|frame| frame["type"].as_str().unwrap()),
        ["reconnect", "bye", "close"],
        "{frames:?}"
    );
    assert_eq!(frames[2]["code"], 1012);
}

#[tokio::test]
async fn who_slept_through_its_lease_delivers_nothing_stale_moves_its_clients_and_begins_anew() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut sleeper = sleeper(&redis);
    until("it is connected", || sleeper.is("connected")).await;
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let mut client = Client::connect(sleeper.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    let is_in_state = client.subscribe("collection:42:ops", None).await["position"].as_str().unwrap().to_owned();
    let mut is_running = fleet.client(0, "bob").await;
    is_running.subscribe("collection:42:ops", Some(&is_in_state)).await;
    let mut publisher = fleet.client(0, "carol").await;
    let before = lease(&redis, "sleeper").expect("it holds its lease");

    // Asleep, it gets a message from Redis and a publish from its client.
    sleeper.child.freeze().unwrap();
    assert_eq!(publisher.publish("collection:42:ops", 1).await["type"], "ack");
    client.send_text(r#"{"type":"publish","channel":"collection:42:ops","event":"n","payload":2}"#).await;
    until("its lease has ended", || lease(&redis, "sleeper").is_none()).await;
    sleeper.child.thaw().unwrap();

    expect_move(&mut client).await;
    until("it is connected again", || sleeper.is("connected")).await;
    assert_eq!(sleeper.number("tidegate_fences_total "), Some(1.0));
    assert_eq!(sleeper.number("tidegate_broker_downs_total "), Some(1.0), "its link to Redis began anew too");
    let after = lease(&redis, "sleeper").expect("it has a new lease");
    let incarnation = |token: &str| token.rsplit_once(':').expect("a token ends in one").1.to_owned();
    assert_ne!(incarnation(&before), incarnation(&after));

    // What came from its client in its sleep was not published; what Redis kept comes to whoever resumes.
    let mut client = Client::connect(sleeper.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("collection:42:ops", Some(&is_in_state)).await;
    assert_eq!(publisher.publish("collection:42:ops", 3).await["type"], "ack");
    assert_eq!(client.messages(2).await.0, [1, 3]);
    assert_eq!(is_running.messages(2).await.0, [1, 3]);
    sleeper.child.kill().unwrap();
}

#[tokio::test]
async fn who_wakes_up_without_redis_moves_its_clients_and_is_isolated() {
    let mut redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let sleeper = sleeper(&redis);
    until("it is connected", || sleeper.is("connected")).await;
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let mut client = Client::connect(sleeper.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("collection:42:ops", None).await;
    sleeper.child.freeze().unwrap();
    redis.crash();
    // Nobody is left who could say that the lease has ended: so long it lasts.
    tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
    sleeper.child.thaw().unwrap();
    expect_move(&mut client).await;
    until("its new incarnation is isolated", || sleeper.is("isolated")).await;
    let mut client = Client::connect(sleeper.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    assert_eq!(client.expect("degraded").await["payload"]["degraded"], true);
    client.send_text(r#"{"type":"subscribe","channel":"collection:42:ops"}"#).await;
    client.expect("subscribed").await;
    assert_eq!(client.publish("collection:42:ops", 1).await["payload"]["level"], "local");
    assert_eq!(client.expect("n").await["payload"], 1);
    redis.restart();
    let gap = loop {
        match client.next().await {
            frame if frame["type"] == "degraded" => {}
            frame => break frame,
        }
    };
    assert_eq!((&gap["type"], &gap["payload"]["reason"]), (&"gap".into(), &"isolated".into()), "{gap}");
    until("it is connected again", || sleeper.is("connected")).await;
    assert_eq!(sleeper.number("tidegate_fences_total "), Some(1.0));
}

#[tokio::test]
async fn whose_lease_another_took_moves_its_clients_and_waits_for_its_turn() {
    let redis = RedisServer::start(&[]);
    let registry = format!(
        "[registry]\nheartbeat_interval_ms = {HEARTBEAT_MS}\nlease_ms = {LEASE_MS}\nreap_ms = {}\n",
        LEASE_MS + HEARTBEAT_MS
    );
    let fleet = Fleet::start(1, Some(&redis.url()), &registry);
    let admin = fleet.gateway(0).admin_addr();
    until("it is connected", || is(admin, "connected")).await;
    let mut client = fleet.client(0, "alice").await;
    // As a second process of this name would have it: the same token but for the incarnation.
    let mut taken = lease(&redis, "gw-0").expect("it holds its lease");
    let last = taken.pop().expect("a token is not empty");
    taken.push(if last == '0' { '1' } else { '0' });
    let mut take = redis::cmd("SET");
    let () = take.arg(lease_key("gw-0")).arg(&taken).query(&mut redis.connect()).unwrap();
    expect_move(&mut client).await;
    assert_eq!(number(admin, "tidegate_fences_total "), Some(1.0));
    // The new incarnation has no lease, yet messages travel.
    until("its new incarnation waits", || is(admin, "lease_lost")).await;
    assert_eq!(lease(&redis, "gw-0").as_ref(), Some(&taken));
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("collection:42:ops", None).await;
    assert_eq!(client.publish("collection:42:ops", 1).await["payload"]["level"], "durable");
    let () = redis.command(&["DEL", &lease_key("gw-0")]);
    until("it is connected again", || is(admin, "connected")).await;
    client.send_text(r#"{"type":"ping"}"#).await;
    while client.next().await["type"] != "pong" {}
    assert_eq!(number(admin, "tidegate_fences_total "), Some(1.0), "and this one was not moved");
}

#[tokio::test]
async fn an_isolated_instance_drains_as_any_other() {
    let mut redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(1, Some(&redis.url()), "");
    let mut client = fleet.client(0, "alice").await;
    let admin = fleet.gateway(0).admin_addr();
    redis.crash();
    assert_eq!(client.expect("degraded").await["payload"]["degraded"], true);
    until("it is isolated", || is(admin, "isolated")).await;
    let gateway = fleet.gateways[0].take().expect("it runs");
    let (began, drain) = (Instant::now(), tokio::spawn(gateway.drain()));
    expect_move(&mut client).await;
    drop(client);
    drain.await.unwrap();
    assert!(began.elapsed() < DEADLINE, "it waits for nobody but its clients");
}
