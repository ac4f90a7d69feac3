//! An instance goes away under load: its clients are moved a few at a time, and miss nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wire::{Families, TenantId};

use crate::client::DEADLINE;
use crate::fleet::Fleet;
use crate::process::is;
use crate::receiver::{Kept, Receiver, Transport};
use test_support::RedisServer;

const TAKES_PER_SECOND: u32 = 50;
const HEARTBEAT_MS: u64 = 1_000;

/// What all instances are told; a window of none would move everybody at once.
fn settings(window_ms: u64) -> String {
    format!(
        "[limits]\nconnections_per_user = 0\nconnects_per_second_per_address = 1000000\nconnects_per_second = {TAKES_PER_SECOND}\n\
         [drain]\nwindow_ms = {window_ms}\ngrace_ms = 120000\n\
         [registry]\nheartbeat_interval_ms = {HEARTBEAT_MS}\nlease_ms = 10000\nreap_ms = 12000\n"
    )
}

/// Waits until the first instance has looked at the heartbeats of the second, and so knows what it takes in.
async fn until_known(fleet: &Fleet, redis: &RedisServer) {
    let until = Instant::now() + DEADLINE;
    for index in 0..2 {
        while !is(fleet.gateway(index).admin_addr(), "connected") {
            assert!(Instant::now() < until, "instance {index} has no lease");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // It sends a heartbeat, and then it looks; the look behind the first of these two is whole.
    let heartbeat = || redis.command::<String>(&["HGET", &keyspace::Keyspace::default().peers(), "gw-0"]);
    for _ in 0..2 {
        let before = heartbeat();
        while heartbeat() == before {
            assert!(Instant::now() < until, "the first instance sends no heartbeat: {before}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What one client saw of the drain.
struct Moved {
    closed_at: Instant,
    /// The newest message it had by then.
    received: u64,
}

/// Publishes a number every `pause` until told to stop; gives how many.
pub(crate) async fn publish(
    mut redis: redis::aio::MultiplexedConnection,
    pause: Duration,
    published: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let channel = Families::default().parse_channel(&TenantId::parse("acme").unwrap(), "collection:42:ops").unwrap();
    let keyspace = keyspace::Keyspace::default();
    let mut pause = tokio::time::interval(pause);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut call = redis::cmd("FCALL");
        call.arg("tidegate_publish").arg(2).arg(keyspace.stream(&channel.scope)).arg(keyspace.meta(&channel.scope));
        let message = format!(r#"{{"type":"n","payload":{n}}}"#);
        let _: String = call.arg(channel.topic()).arg(message).query_async(&mut redis).await.unwrap();
        n += 1;
        published.store(n, Ordering::Relaxed);
        pause.tick().await;
    }
    n
}

/// Reads numbers, each one more than the one before, until `until` or a close.
async fn read_on(client: &mut Receiver, next: &mut u64, until: u64) -> bool {
    while *next < until {
        let frame = client.next().await;
        match frame["type"].as_str().unwrap() {
            "n" => {
                assert_eq!(frame["payload"], *next, "in order, none missing, none twice");
                *next += 1;
            }
            "close" => {
                assert_eq!(frame["code"], 1012);
                return false;
            }
            "reconnect" | "bye" => {}
            _ => panic!("{frame}"),
        }
    }
    true
}

over_both_transports!(
    clients_are_moved_a_few_at_a_time_and_miss_nothing,
    a_drain_is_no_faster_than_the_others_take_clients_in,
);

async fn clients_are_moved_a_few_at_a_time_and_miss_nothing(transport: Transport) {
    const CLIENTS: u32 = 150;
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), &settings(1_000));
    until_known(&fleet, &redis).await;
    let elsewhere = fleet.gateway(1).listen_addr();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Receiver::subscribed(transport, &fleet, 0, "alice", &["collection:42:*"]).await);
    }
    let (published, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let publishing =
        tokio::spawn(publish(redis.connect_async().await, Duration::from_millis(20), published.clone(), stop.clone()));
    let mut moving = JoinSet::new();
    for mut client in clients {
        moving.spawn(async move {
            let mut next = 0;
            assert!(!read_on(&mut client, &mut next, u64::MAX).await);
            let moved = Moved { closed_at: Instant::now(), received: next };
            let mut client = client.kept().connect(elsewhere).await;
            let answers = client.until_subscribed().await;
            assert_eq!(answers[0]["payload"]["resumed"], true, "{answers:?}");
            (client, next, moved)
        });
    }
    while published.load(Ordering::Relaxed) < 10 {
        assert!(!publishing.is_finished(), "the publisher goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = published.load(Ordering::Relaxed);
    let leaving = fleet.gateways[0].take().unwrap();
    let began = Instant::now();
    leaving.drain().await;
    assert!(began.elapsed().as_secs() < 60, "nobody was waited for to be cut: {:?}", began.elapsed());
    let mut back = Vec::new();
    while let Some(moved) = moving.join_next().await {
        back.push(moved.expect("it missed nothing"));
    }
    stop.store(true, Ordering::Relaxed);
    let all = publishing.await.unwrap();

    let times = || back.iter().map(|(.., moved)| moved.closed_at);
    let spread = times().max().unwrap() - times().min().unwrap();
    // Three seconds by the clock; when the clients see it a busy machine blurs.
    assert!(spread.as_secs() >= 1, "all at once would be a storm: {spread:?}");
    let last = back.iter().map(|(.., moved)| moved).max_by_key(|moved| moved.closed_at).unwrap();
    assert!(last.received > before + 5, "who was not moved yet was served as before: {} after {before}", last.received);
    for (mut client, mut next, _) in back {
        assert!(read_on(&mut client, &mut next, all).await);
    }
}

/// Without a window they would all go at once.
async fn a_drain_is_no_faster_than_the_others_take_clients_in(transport: Transport) {
    const CLIENTS: u32 = 120;
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), &settings(0));
    until_known(&fleet, &redis).await;
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let kept = Kept::nothing(transport, &token, &["collection:42:*"]);
        let mut client = kept.connect(fleet.gateway(0).listen_addr()).await;
        client.expect("welcome").await;
        clients.push(tokio::spawn(async move {
            // An instance that has just begun may say that it has not reached Redis yet.
            while client.next().await["type"] != "reconnect" {}
            client.expect("bye").await;
            client.expect("close").await;
        }));
    }
    let began = Instant::now();
    fleet.gateways[0].take().unwrap().drain().await;
    // However late a busy machine is, the pace goes by the clock.
    let took = began.elapsed().as_secs_f64();
    assert!(took > 0.95 * f64::from(CLIENTS / TAKES_PER_SECOND), "{took} s");
    for client in clients {
        client.await.expect("it was told to come back");
    }
}
