//! A third instance comes: two full ones send it clients until all three have about the same, and nobody misses anything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::DEADLINE;
use crate::drain::publish;
use crate::fleet::Fleet;
use crate::receiver::{Kept, Transport};
use test_support::RedisServer;

const CLIENTS: usize = 300;
const SETTINGS: &str = "[limits]\nconnections_per_user = 0\nconnects_per_second_per_address = 1000000\n\
                        [registry]\nheartbeat_interval_ms = 500\nlease_ms = 5000\nreap_ms = 6000\n\
                        [rebalance]\nsurplus_min = 10\nspare_ms = 6000\n";
/// More rounds than are needed: instances begin again with a small one whenever they hear their peers late.
const SPREAD_DEADLINE: Duration = Duration::from_secs(120);
/// A mean of 100, and a fifth.
const LEVEL: usize = 120;

/// As a balancer does: it knows how many each instance has, and gives clients to the one with the fewest.
#[derive(Default)]
struct Balancer(Mutex<Vec<(SocketAddr, usize)>>);

impl Balancer {
    fn add(&self, instance: SocketAddr) {
        self.0.lock().unwrap().push((instance, 0));
    }

    fn take(&self) -> SocketAddr {
        let mut instances = self.0.lock().unwrap();
        let (address, count) = instances.iter_mut().min_by_key(|(_, count)| *count).unwrap();
        *count += 1;
        *address
    }

    fn leave(&self, from: SocketAddr) {
        self.0.lock().unwrap().iter_mut().find(|(address, _)| *address == from).unwrap().1 -= 1;
    }

    fn counts(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(|(_, count)| *count).collect()
    }
}

/// What all clients share.
struct World {
    transport: Transport,
    balancer: Balancer,
    token: String,
    moves: AtomicU64,
    /// How many messages there are, once that is known.
    all: watch::Sender<u64>,
}

/// Hears numbers, each one more than the one before, wherever it is sent; gives how often it was sent elsewhere.
async fn listen(world: Arc<World>) -> u64 {
    let (mut next, mut moved) = (0, 0);
    let mut kept = Kept::nothing(world.transport, &world.token, &["collection:42:*"]);
    let mut all = world.all.subscribe();
    loop {
        let at = world.balancer.take();
        let mut client = kept.connect(at).await;
        let answers = client.until_subscribed().await;
        assert!(moved == 0 || answers[0]["payload"]["resumed"] == true, "{answers:?}");
        let mut after_ms = 0;
        loop {
            if next == *all.borrow_and_update() {
                return moved;
            }
            let frame = tokio::select! {
                frame = client.next() => frame,
                _ = all.changed() => continue,
            };
            match frame["type"].as_str().unwrap() {
                "n" => {
                    assert_eq!(frame["payload"], next, "in order, none missing, none twice");
                    next += 1;
                }
                "reconnect" => after_ms = frame["payload"]["after_ms"].as_u64().unwrap(),
                "close" => {
                    assert_eq!(frame["code"], 1012);
                    break;
                }
                "bye" => {}
                _ => panic!("{frame}"),
            }
        }
        kept = client.kept();
        world.balancer.leave(at);
        (moved, _) = (moved + 1, world.moves.fetch_add(1, Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
    }
}

async fn total(fleet: &Fleet, name: &str) -> f64 {
    let mut sum = 0.0;
    for index in 0..fleet.gateways.len() {
        sum += fleet.metric(index, name).await;
    }
    sum
}

over_both_transports!(after_a_scale_out_clients_spread_and_miss_nothing_and_then_it_is_quiet);

async fn after_a_scale_out_clients_spread_and_miss_nothing_and_then_it_is_quiet(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), SETTINGS);
    for index in 0..2 {
        drop(fleet.client(index, "first").await); // It has reached Redis.
    }
    let world = Arc::new(World {
        transport,
        balancer: Balancer::default(),
        token: fleet.token("acme", "alice", &["collection:*"]),
        moves: AtomicU64::new(0),
        all: watch::Sender::new(u64::MAX),
    });
    for index in 0..2 {
        world.balancer.add(fleet.gateway(index).listen_addr());
    }
    let mut listening = JoinSet::new();
    for _ in 0..CLIENTS {
        listening.spawn(listen(Arc::clone(&world)));
    }
    let deadline = Instant::now() + DEADLINE;
    while total(&fleet, "tidegate_subscriptions").await < CLIENTS as f64 {
        assert!(Instant::now() < deadline, "not all subscribed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (published, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let client = redis.connect_async().await;
    let publishing = tokio::spawn(publish(client, Duration::from_millis(20), published, stop.clone()));
    // Longer than who has just come is spared, and longer than it takes to begin: level fleets are left alone.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(world.moves.load(Ordering::Relaxed), 0);

    fleet.add(None);
    drop(fleet.client(2, "first").await);
    world.balancer.add(fleet.gateway(2).listen_addr());
    let deadline = Instant::now() + SPREAD_DEADLINE;
    while world.balancer.counts().iter().any(|count| *count > LEVEL) {
        assert!(Instant::now() < deadline, "{:?}", world.balancer.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The round that is under way ends, and no other one begins.
    let moves = loop {
        let moves = world.moves.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        if world.moves.load(Ordering::Relaxed) == moves {
            break moves;
        }
        assert!(Instant::now() < deadline, "it is not quiet: {:?}", world.balancer.counts());
    };
    assert_eq!(total(&fleet, "tidegate_rebalanced_total").await, moves as f64);
    assert_eq!(total(&fleet, "tidegate_rebalance_pauses_total").await, 0.0);
    let counts = world.balancer.counts();
    assert!(counts.iter().all(|count| *count <= LEVEL), "{counts:?}");

    stop.store(true, Ordering::Relaxed);
    world.all.send_replace(publishing.await.unwrap());
    let mut moved = Vec::new();
    while let Some(times) = listening.join_next().await {
        moved.push(times.expect("it missed nothing"));
    }
    assert_eq!(moved.iter().max(), Some(&1), "nobody is moved twice");
}
