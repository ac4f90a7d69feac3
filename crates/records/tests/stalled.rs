//! A Redis that accepts calls and does not answer: after a few calls, further ones are refused at once, until it
//! answers again.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keyspace::{Keyspace, Library};
use records::{Bounds, Loading, RedisStore, RedisStoreConfig, Store, StoreError};
use redis_topology::{BreakerCounts, Target};
use test_support::RedisServer;
use wire::{Families, TenantId};

const DEADLINE: Duration = Duration::from_secs(2);
/// How often one trial call is let through. A thousand calls may take longer than this on a busy machine.
const PAUSE: Duration = Duration::from_millis(500);

fn store(server: &RedisServer) -> RedisStore {
    RedisStore::new(RedisStoreConfig {
        target: Target::parse(&server.url()).unwrap(),
        connections_max: 10,
        keyspace: Keyspace::default(),
        library: Library::new(Families::default().iter().map(|(_, shape)| (shape, 60_000, 100))),
        loading: Loading::Replace,
        deadline: DEADLINE,
        bounds: Bounds { entries_max: 10, ttl: Duration::from_secs(60) },
    })
}

/// Sends one command to Redis. Returns its result and how long it took.
async fn ask(store: &RedisStore) -> (Result<(), StoreError>, Duration) {
    let begun = Instant::now();
    let answer = store.dead_letters(&TenantId::default(), None, 1).await;
    (answer.map(drop), begun.elapsed())
}

#[tokio::test]
async fn a_stalled_redis_is_detected_by_a_few_calls_and_not_by_each() {
    let server = RedisServer::start(&[]);
    let store = store(&server);
    assert_eq!(ask(&store).await.0, Ok(()));
    server.freeze();
    for _ in 0..3 {
        let (answer, took) = ask(&store).await;
        assert!(answer.is_err() && took >= DEADLINE, "{answer:?} after {took:?}");
    }
    // Most calls fail at once; in each pause at most one of them is a trial that waits.
    let begun = Instant::now();
    let asked = std::cell::Cell::new(begun);
    let flood = join_all((0..1_000).map(|_| {
        let (asking, asked) = (ask(&store), &asked);
        async move {
            asked.set(Instant::now());
            asking.await
        }
    }))
    .await;
    let trials = 1 + (asked.get() - begun).as_millis() / PAUSE.as_millis();
    assert!(flood.iter().all(|(answer, _)| answer.is_err()));
    let waited = flood.iter().filter(|(_, took)| *took >= DEADLINE).count() as u128;
    assert!(waited <= trials, "{waited} of 1,000 calls waited for {DEADLINE:?}");
    let counts = store.pools().counts();
    assert!(u128::from(counts.refused) >= 1_000 - trials, "{counts:?}");
    assert_eq!((counts.open, counts.opens), (1, 1), "after {:?}", begun.elapsed());
    server.thaw();
    let back = Instant::now();
    while ask(&store).await.0.is_err() {
        assert!(back.elapsed() < Duration::from_secs(30), "it answers, and is not asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(join_all((0..100).map(|_| ask(&store))).await.iter().all(|(answer, _)| answer.is_ok()));
    assert_eq!(store.pools().counts(), BreakerCounts { open: 0, ..store.pools().counts() });
}
