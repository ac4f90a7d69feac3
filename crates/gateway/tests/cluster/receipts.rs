//! Who has got how far, over instances and devices.

use std::time::{Duration, Instant};

use keyspace::{Function, Keyspace};
use test_support::RedisServer;
use tokio::time::sleep;
use wire::{Families, Scope};

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::metrics::{get, metric, until};

const RECEIPTS: &str = "[[families]]\nname = \"collection\"\nreceipts = true\n";

fn scope() -> Scope {
    Families::default().parse_scope("acme/collection:42").unwrap()
}

/// The scope's top, and what this user has acknowledged of it.
fn receipts(redis: &RedisServer, user: &str) -> redis::RedisResult<(String, Option<String>)> {
    let keys = Keyspace::default();
    let mut ask = redis::cmd("FCALL_RO");
    ask.arg(Function::RECEIPTS.name).arg(3);
    ask.arg(keys.receipts(&scope())).arg(keys.receipts_times(&scope())).arg(keys.meta(&scope()));
    let (top, _, found): (String, Vec<String>, Vec<String>) = ask.arg(1).arg(user).query(&mut redis.connect())?;
    Ok((top, found.get(1).cloned()))
}

/// Waits until this user has acknowledged so much.
async fn until_acknowledged(redis: &RedisServer, user: &str, position: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // A Redis that has just started reads its file first.
        let acknowledged = receipts(redis, user).map(|(_, acknowledged)| acknowledged);
        if acknowledged.as_ref().is_ok_and(|at| at.as_deref() == Some(position)) {
            return;
        }
        assert!(Instant::now() < deadline, "{user} stands at {acknowledged:?}, not {position}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn acknowledge(client: &mut Client, position: &str) {
    client.send_text(&format!(r#"{{"type":"receipt","channel":"collection:42","position":"{position}"}}"#)).await;
}

/// Subscribes, reads five messages, and gives their positions.
async fn reader(fleet: &Fleet, index: usize, user: &str) -> Client {
    let mut client = fleet.client(index, user).await;
    client.subscribe("collection:42:*", None).await;
    client
}

async fn positions(client: &mut Client, n: usize) -> Vec<String> {
    let mut positions = Vec::new();
    while positions.len() < n {
        positions.push(client.messages(1).await.1);
    }
    positions
}

#[tokio::test]
async fn a_user_has_got_what_the_furthest_device_has() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), RECEIPTS);
    let (mut phone, mut laptop) = (reader(&fleet, 0, "alice").await, reader(&fleet, 1, "alice").await);
    let mut bob = reader(&fleet, 0, "bob").await;
    let mut worker = fleet.client(0, "worker").await;
    for n in 0..5 {
        assert_eq!(worker.publish("collection:42:ops", n).await["type"], "ack");
    }
    let seen = positions(&mut phone, 5).await;
    assert_eq!(positions(&mut laptop, 5).await, seen);
    assert_eq!(positions(&mut bob, 5).await, seen);

    acknowledge(&mut phone, &seen[2]).await;
    until_acknowledged(&redis, "alice", &seen[2]).await;
    acknowledge(&mut laptop, &seen[4]).await;
    until_acknowledged(&redis, "alice", &seen[4]).await;
    // The phone comes to its fourth later: that takes nothing back.
    acknowledge(&mut phone, &seen[3]).await;
    acknowledge(&mut bob, &seen[0]).await;
    until_acknowledged(&redis, "bob", &seen[0]).await;
    until(&fleet, "tidegate_receipts_waiting", 0).await;
    assert_eq!(receipts(&redis, "alice"), Ok((seen[4].clone(), Some(seen[4].clone()))));
    assert_eq!(receipts(&redis, "carol"), Ok((seen[4].clone(), None)));

    let beyond = format!("{}9", seen[4]);
    acknowledge(&mut bob, &beyond).await;
    assert_eq!(bob.expect("error").await["payload"]["code"], "invalid_position");
    bob.send_text(&format!(
        r#"{{"type":"receipt","channel":"collection:42:*","position":"{}","correlation_id":"a1"}}"#,
        seen[1]
    ))
    .await;
    let answer = bob.expect("receipt").await;
    assert_eq!((&answer["position"], &answer["correlation_id"]), (&seen[1].as_str().into(), &"a1".into()));
}

#[tokio::test]
async fn many_receipts_are_few_writes_and_wait_while_redis_is_away() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let fleet = Fleet::start(1, Some(&redis.url()), RECEIPTS);
    let mut alice = reader(&fleet, 0, "alice").await;
    let mut worker = fleet.client(0, "worker").await;
    for n in 0..100 {
        worker.publish("collection:42:ops", n).await;
    }
    let seen = positions(&mut alice, 100).await;
    let start = Instant::now();
    // One after the other, so that they are not one because they came at once.
    for position in &seen {
        alice
            .send_text(&format!(
                r#"{{"type":"receipt","channel":"collection:42","position":"{position}","correlation_id":"a"}}"#
            ))
            .await;
        alice.expect("receipt").await;
    }
    until_acknowledged(&redis, "alice", &seen[99]).await;
    // It stands in Redis a moment before the gateway has counted it.
    let mut written = 0;
    while written == 0 {
        assert!(start.elapsed() < DEADLINE, "nothing is counted as written");
        written = metric(&fleet, "tidegate_receipts_written_total").await;
    }
    let seconds = start.elapsed().as_secs();
    assert_eq!(metric(&fleet, "tidegate_receipts_total").await, 100);
    assert!(written <= seconds + 2, "{written} writes in {seconds} s");

    worker.publish("collection:42:ops", 100).await;
    let last = positions(&mut alice, 1).await.remove(0);
    redis.crash();
    acknowledge(&mut alice, &last).await;
    until(&fleet, "tidegate_receipts_total", 101).await;
    redis.restart();
    until_acknowledged(&redis, "alice", &last).await;
    assert_eq!(metric(&fleet, "tidegate_receipts_dropped_total").await, 0);
}

/// Without Redis they are kept by the process, and shown by its administration port.
#[tokio::test]
async fn a_gateway_without_redis_keeps_them_itself() {
    let fleet = Fleet::start(1, None, RECEIPTS);
    let mut alice = reader(&fleet, 0, "alice").await;
    let mut worker = fleet.client(0, "worker").await;
    worker.publish("collection:42:ops", 1).await;
    let seen = positions(&mut alice, 1).await.remove(0);
    acknowledge(&mut alice, &seen).await;
    let (address, deadline) = (fleet.gateway(0).admin_addr(), Instant::now() + DEADLINE);
    loop {
        let answer = get(address, "/receipts?tenant=acme&channel=collection:42&user=alice").await;
        if answer.contains(&format!(r#""acknowledged":"{seen}""#)) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
        sleep(Duration::from_millis(20)).await;
    }
}
