//! What only a real Redis can show: leases that run out, failovers, a full memory, a library that is not there.

mod support;

use std::time::{Duration, Instant};

use connection_registry::{Acquired, Instance, RedisStore, Refusal, RowChange, Store, StoreError, Timings, Token};
use keyspace::{Function, Keyspace, Library};
use redis::aio::MultiplexedConnection;
use support::{RedisServer, command, instance, row};
use wire::SessionId;

async fn granted(store: &RedisStore, instance: &Instance) -> Token {
    match store.acquire(instance, 0).await.unwrap() {
        Acquired::Granted { token, .. } => token,
        Acquired::Busy { holder } => panic!("held by {holder}"),
    }
}

fn put(number: u128) -> RowChange {
    RowChange::Put(SessionId::from_random(number), row("alice"))
}

/// What stands in the middle of a token.
fn number(token: &Token) -> u64 {
    token.as_str().split(':').nth(1).unwrap().parse().unwrap()
}

/// Lets a lease run out, as a forward jump of Redis' clock would.
async fn run_out(redis: &mut MultiplexedConnection, instance: &Instance) {
    let ended: i64 = command(redis, &["DEL", &Keyspace::default().lease(&instance.id)]).await;
    assert_eq!(ended, 1, "there was a lease to end");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_and_its_old_holder_refused() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let (frozen, successor) = (instance("gw-1", 1), instance("gw-1", 2));
    let stale = granted(&store, &frozen).await;
    store.write_rows(&frozen, &stale, &[put(1)]).await.unwrap();

    run_out(&mut redis, &frozen).await;
    let refused = store.write_rows(&frozen, &stale, &[put(2)]).await;
    assert_eq!(refused, Err(StoreError::Refused(Refusal::Expired)), "nobody took it yet, and still it is over");

    let asked = store.acquire(&successor, 0).await.unwrap();
    let Acquired::Granted { token, before: Some(before) } = asked else { panic!("free: {asked:?}") };
    assert_eq!(before, frozen.incarnation);
    assert!(number(&token) > number(&stale));
    store.delete_rows(&successor, &token, before).await.unwrap();
    store.write_rows(&successor, &token, &[put(3)]).await.unwrap();

    // The frozen one wakes up.
    for refused in [
        store.renew(&frozen, &stale, 9).await,
        store.write_rows(&frozen, &stale, &[put(2)]).await,
        store.release(&frozen, &stale).await.map(|()| 0),
        store.delete_rows(&frozen, &stale, successor.incarnation).await.map(|()| 0),
    ] {
        assert_eq!(refused, Err(StoreError::Refused(Refusal::Taken)));
    }
    let keys = Keyspace::default();
    let left: i64 = command(&mut redis, &["EXISTS", &keys.rows(&frozen.id, frozen.incarnation)]).await;
    assert_eq!(left, 0);
    assert_eq!(store.renew(&successor, &token, 1).await, Ok(1));
}

#[tokio::test]
async fn a_lease_and_its_rows_end_by_themselves() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    let keys = Keyspace::default();
    let (lease, rows) = (keys.lease(&first.id), keys.rows(&first.id, first.incarnation));
    for key in [&lease, &rows] {
        let _: i64 = command(&mut redis, &["PEXPIRE", key, "900"]).await;
    }
    store.renew(&first, &token, 1).await.unwrap();
    let lease_ms: i64 = command(&mut redis, &["PTTL", &lease]).await;
    let rows_ms: i64 = command(&mut redis, &["PTTL", &rows]).await;
    assert!((1_000..=6_000).contains(&lease_ms), "renewed: {lease_ms} ms");
    assert!((6_000..=60_000).contains(&rows_ms), "outlives the lease: {rows_ms} ms");
}

#[tokio::test]
async fn after_a_failover_older_tokens_are_stale_although_the_lease_was_replicated() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let first = instance("gw-1", 1);
    let old = granted(&store, &first).await;
    store.write_rows(&first, &old, &[put(1)]).await.unwrap();
    let _: () = command(&mut redis, &["DEBUG", "CHANGE-REPL-ID"]).await;

    let stale = StoreError::Refused(Refusal::Generation);
    assert_eq!(store.renew(&first, &old, 1).await, Err(stale.clone()));
    assert_eq!(store.write_rows(&first, &old, &[put(2)]).await, Err(stale.clone()));
    assert_eq!(store.delete_rows(&first, &old, first.incarnation).await, Err(stale.clone()));
    assert_eq!(store.release(&first, &old).await, Err(stale));

    // A lease of the old generation holds nobody off, not even another incarnation.
    let second = instance("gw-1", 2);
    let new = granted(&store, &second).await;
    assert!(number(&new) > number(&old));
    assert_eq!(store.acquire(&first, 2).await, Ok(Acquired::Busy { holder: second.incarnation }));
}

#[tokio::test]
async fn a_redis_that_forgot_everything_gives_no_token_twice() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let first = instance("gw-1", 1);
    // Faster than one per millisecond: a counter that restarts at the clock in ms repeated tokens here.
    let mut newest = granted(&store, &first).await;
    for _ in 0..50 {
        newest = granted(&store, &first).await;
    }
    let _: () = command(&mut redis, &["FLUSHALL"]).await;
    assert_eq!(store.renew(&first, &newest, 1).await, Err(StoreError::Refused(Refusal::Expired)));
    let token = granted(&store, &first).await;
    assert!(number(&token) > number(&newest), "{token:?} after {newest:?}");
    assert_eq!(store.renew(&first, &newest, 1).await, Err(StoreError::Refused(Refusal::Taken)));
}

#[tokio::test]
async fn a_full_redis_renews_and_frees_but_gives_no_new_lease() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    let _: () = command(&mut redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let refused: redis::RedisResult<()> =
        redis::cmd("SET").arg("x").arg(vec![b'x'; 1 << 20]).exec_async(&mut redis).await;
    assert!(refused.is_err_and(|error| error.code() == Some("OOM")), "the memory is full");

    assert_eq!(store.renew(&first, &token, 1).await, Ok(1));
    assert_eq!(store.peers().await.map(|peers| peers.len()), Ok(1));
    let rejected = store.write_rows(&first, &token, &[put(2)]).await;
    assert!(matches!(&rejected, Err(StoreError::Rejected(why)) if why.contains("OOM")), "{rejected:?}");
    let rejected = store.acquire(&instance("gw-2", 2), 0).await;
    assert!(matches!(&rejected, Err(StoreError::Rejected(why)) if why.contains("OOM")), "{rejected:?}");
    assert_eq!(store.renew(&first, &token, 2).await, Ok(1));
    assert_eq!(store.delete_rows(&first, &token, first.incarnation).await, Ok(()));
    assert_eq!(store.release(&first, &token).await, Ok(()));
}

#[tokio::test]
async fn the_library_is_loaded_when_it_is_missing_and_a_newer_one_left_alone() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default()), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["FUNCTION", "FLUSH"]).await;
    assert_eq!(store.renew(&first, &token, 1).await, Ok(0));

    let newer = format!(
        "#!lua name={}\nredis.register_function{{function_name='{}', callback=function() return {{99, 'x'}} end, \
         flags={{'no-writes'}}}}",
        Library::NAME,
        Function::VERSION.name
    );
    let _: String = command(&mut redis, &["FUNCTION", "LOAD", "REPLACE", &newer]).await;
    let refused = store.renew(&first, &token, 2).await;
    assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("not found")), "{refused:?}");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_and_the_next_one_works() {
    let server = RedisServer::start();
    let timings = Timings { call: Duration::from_millis(200), ..Timings::default() };
    let (store, mut redis) = (server.store(timings), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    assert_eq!(store.renew(&first, &token, 1).await, Err(StoreError::NoAnswer(timings.call)));
    let _: () = command(&mut redis, &["CLIENT", "UNPAUSE"]).await;
    assert_eq!(store.renew(&first, &token, 2).await, Ok(0));
}

/// One deadline over all a call does: asking the pool's connection, opening another one, and the call itself.
#[tokio::test]
async fn a_call_takes_no_longer_than_its_deadline_whatever_hangs() {
    let server = RedisServer::start();
    let timings = Timings { call: Duration::from_millis(1_000), ..Timings::default() };
    let (store, mut redis) = (server.store(timings), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["CLIENT", "PAUSE", "3000", "ALL"]).await;
    let asked = Instant::now();
    let answer = store.renew(&first, &token, 1).await;
    // Either is true: the pool's own deadline ends together with the call's.
    assert!(matches!(answer, Err(StoreError::Unreachable(_) | StoreError::NoAnswer(_))), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_millis(1_800), "gave up after {:?}", asked.elapsed());
    while let Err(error) = store.renew(&first, &token, 2).await {
        assert!(error.may_retry(), "{error}");
        assert!(asked.elapsed() < support::PATIENCE, "Redis answers again, the store does not: {error}");
    }
}

#[tokio::test]
async fn no_redis_is_a_plain_error() {
    let server = RedisServer::start();
    let store = server.store(Timings::default());
    drop(server);
    let answer = store.acquire(&instance("gw-1", 1), 0).await;
    assert!(matches!(answer, Err(StoreError::Unreachable(_))), "{answer:?}");
}
