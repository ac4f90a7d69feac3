//! Behaviour that only a real Redis shows: expired leases, failovers, a full memory, a missing library.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use connection_registry::{
    Acquired, CloseReason, Connected, ConnectionLimits, ConnectionRow, DirectoryReply, Heartbeat, Instance,
    InstanceCommand, OnExcess, RedisStore, RedisStoreConfig, Refusal, RevocationCursor, RevocationLog,
    RevocationSubject, RowChange, SessionClose, Store, StoreError, Timings, Token,
};
use keyspace::{Function, Keyspace, Library};
use redis::aio::MultiplexedConnection;
use support::{ANY_NUMBER, RedisServer, command, instance, nth_heartbeat, row, store_at, unhurried};
use test_support::{RedisCluster, SentinelSet};
use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

/// The answer with this number of rows and without commands.
fn listed(rows: usize) -> Result<DirectoryReply, StoreError> {
    Ok(DirectoryReply { rows, commands: Vec::new() })
}

/// The answer to a renewal, without its time.
async fn renew(
    store: &RedisStore,
    instance: &Instance,
    token: &Token,
    nth_heartbeat: Heartbeat,
) -> Result<DirectoryReply, StoreError> {
    store.renew(instance, token, nth_heartbeat, nth_heartbeat.number - 1).await.map(|renewed| renewed.listed)
}

async fn granted(store: &RedisStore, instance: &Instance) -> Token {
    match store.acquire(instance, nth_heartbeat(0)).await.unwrap() {
        Acquired::Granted { token, .. } => token,
        Acquired::Busy { holder } => panic!("held by {holder}"),
    }
}

fn put(number: u128) -> RowChange {
    RowChange::Put(SessionId::from_random(number), row("alice"), row("alice").connected_at)
}

/// The number in the middle of a token.
fn number(token: &Token) -> u64 {
    token.as_str().split(':').nth(1).unwrap().parse().unwrap()
}

/// Ends a lease, as a forward jump of Redis' clock would.
async fn run_out(redis: &mut MultiplexedConnection, instance: &Instance) {
    let ended: i64 = command(redis, &["DEL", &Keyspace::default().lease(&instance.id)]).await;
    assert_eq!(ended, 1, "there was a lease to end");
}

fn revocation_log(url: &str) -> RevocationLog {
    let library = Library::new(wire::Families::default().iter().map(|(_, shape)| (shape, 60_000, 100)));
    let config = RedisStoreConfig {
        target: redis_topology::Target::parse(url).unwrap(),
        connections_max: 1,
        keyspace: Keyspace::default(),
        library,
        timings: unhurried(),
        limits: ANY_NUMBER,
    };
    RevocationLog::new(&config, unhurried().call)
}

/// Reads everything after the cursor: what is revoked, and whether it was lifted.
async fn read_all(log: &RevocationLog, cursor: &mut RevocationCursor) -> Vec<(RevocationSubject, bool)> {
    let mut all = Vec::new();
    loop {
        let page = log.read(cursor).await.unwrap();
        all.extend(page.entries.into_iter().map(|entry| (entry.subject, entry.at.is_none())));
        if !page.has_more {
            return all;
        }
    }
}

#[tokio::test]
async fn revocations_are_read_once_in_order_and_again_where_redis_has_lost_the_place() {
    let server = RedisServer::start();
    let (log, mut redis) = (revocation_log(&server.url()), server.connection().await);
    let (mut cursor, hour) = (RevocationCursor::default(), Duration::from_secs(3_600));
    assert_eq!(read_all(&log, &mut cursor).await, []);
    let token = |n: usize| RevocationSubject::Token(format!("t {n}"));
    let user = RevocationSubject::User(TenantId::default(), UserId::parse("alice").unwrap());
    log.revoke(&token(0), hour, false).await.unwrap();
    log.revoke(&user, hour, false).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(token(0), false), (user.clone(), false)]);
    assert_eq!(read_all(&log, &mut cursor).await, []);
    log.revoke(&user, hour, true).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(user.clone(), true)]);
    // More than a page.
    for n in 0..600 {
        log.revoke(&token(n), hour, false).await.unwrap();
    }
    assert_eq!(read_all(&log, &mut cursor).await.len(), 600);
    let foreign: String =
        command(&mut redis, &["XADD", "tidegate:{registry}:revocations", "*", "k", "x", "w", "x", "a", "1", "u", "2"])
            .await;
    assert!(!foreign.is_empty());
    assert_eq!(read_all(&log, &mut cursor).await, [], "what cannot be read is passed over");

    // A failover, or somebody with FLUSHALL.
    let _: String = command(&mut redis, &["FLUSHALL"]).await;
    assert_eq!(read_all(&log, &mut cursor).await, []);
    log.revoke(&token(7), hour, false).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(token(7), false)]);
    let mut other = RevocationCursor::default();
    assert_eq!(read_all(&log, &mut other).await, [(token(7), false)]);
    let _: String = command(&mut redis, &["FLUSHALL"]).await;
    log.revoke(&token(8), hour, false).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(token(8), false)], "although its own place is gone");
}

#[tokio::test]
async fn a_revocation_goes_when_its_time_is_over_and_is_refused_above_the_limit() {
    let server = RedisServer::start();
    let (log, mut redis) = (revocation_log(&server.url()), server.connection().await);
    let key = Keyspace::default().revocations();
    let token = |name: &str| RevocationSubject::Token(name.into());
    log.revoke(&token("soon"), Duration::from_millis(1), false).await.unwrap();
    let until = Instant::now() + support::PATIENCE;
    loop {
        log.revoke(&token("long"), Duration::from_secs(3_600), false).await.unwrap();
        let count: usize = command(&mut redis, &["XLEN", &key]).await;
        let all = read_all(&log, &mut RevocationCursor::default()).await;
        if !all.contains(&(token("soon"), false)) {
            assert_eq!(all.len(), count);
            break;
        }
        assert!(Instant::now() < until, "it stays");
    }
    let ttl_ms: u64 = command(&mut redis, &["PTTL", &key]).await;
    assert!((3_500_000..=3_600_000).contains(&ttl_ms), "{ttl_ms}");
    log.revoke(&token("short"), Duration::from_secs(1), false).await.unwrap();
    let ttl_ms: u64 = command(&mut redis, &["PTTL", &key]).await;
    assert!(ttl_ms > 3_500_000, "a shorter one does not shorten the life of the others: {ttl_ms}");
    let fill = "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'k', 'token', 'w', 'x', 'a', '1', 'u', '9999999999999') end";
    redis::cmd("EVAL").arg(fill).arg(1).arg(&key).exec_async(&mut redis).await.unwrap();
    let refused = log.revoke(&token("one more"), Duration::from_secs(3_600), false).await;
    assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("100000 revocations")), "{refused:?}");
    let long = "x".repeat(513);
    let refused = log.revoke(&RevocationSubject::Session(long), Duration::from_secs(1), false).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
}

#[tokio::test]
async fn what_another_program_writes_into_the_log_of_revocations_is_passed_over() {
    let server = RedisServer::start();
    let (log, mut redis) = (revocation_log(&server.url()), server.connection().await);
    let (key, hour) = (Keyspace::default().revocations(), Duration::from_secs(3_600));
    let token = |n: usize| RevocationSubject::Token(format!("t {n}"));
    let mut cursor = RevocationCursor::default();
    log.revoke(&token(0), hour, false).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(token(0), false)]);
    let foreign: [&[&[u8]]; 7] = [
        &[b"x", b"y"],
        &[b"k", b"token"],
        &[b"k", b"token", b"w", b"x", b"a", b"1"],
        &[b"k", b"\xff\xfe", b"w", b"\x00", b"a", b"\x80", b"u", b"\xc3"],
        &[b"k", b"token", b"w", b"x", b"a", b"1", b"u", b"1e999"],
        &[b"k", b"token", b"w", b"x", b"a", b"1", b"u", b"nan"],
        &[b"k", b"user", b"w", b"no tenant", b"a", b"", b"u", b"-1", b"more", b"fields"],
    ];
    for (n, fields) in (1..).zip(foreign) {
        // After others, and as the first one.
        for is_first in [false, true] {
            if is_first {
                let _: i64 = command(&mut redis, &["UNLINK", &key]).await;
                cursor = RevocationCursor::default(); // an id of the same millisecond may be given out again
            }
            redis::cmd("XADD").arg(&key).arg("*").arg(fields).exec_async(&mut redis).await.unwrap();
            log.revoke(&token(n), hour, false).await.unwrap();
            assert_eq!(read_all(&log, &mut cursor).await, [(token(n), false)], "{n} {is_first}");
            let whole = read_all(&log, &mut RevocationCursor::default()).await;
            assert_eq!(whole.last(), Some(&(token(n), false)), "{n} {is_first}");
        }
    }
    // The highest id: nothing can be added after it, and readers read on when it is gone.
    let highest = "18446744073709551615-18446744073709551615";
    let _: String = command(&mut redis, &["XADD", &key, highest, "x", "y"]).await;
    for _ in 0..2 {
        assert_eq!(read_all(&log, &mut cursor).await, []);
    }
    let _: i64 = command(&mut redis, &["UNLINK", &key]).await;
    let _: String = command(&mut redis, &["SET", &key, "x"]).await;
    assert_eq!(read_all(&log, &mut cursor).await, []);
    log.revoke(&token(99), hour, false).await.unwrap();
    assert_eq!(read_all(&log, &mut cursor).await, [(token(99), false)]);
}

#[tokio::test]
async fn a_revocation_for_no_time_is_refused_before_it_is_written() {
    let server = RedisServer::start();
    let (log, mut redis) = (revocation_log(&server.url()), server.connection().await);
    let key = Keyspace::default().revocations();
    assert!(log.read(&mut RevocationCursor::default()).await.unwrap().entries.is_empty(), "it loads the library");
    for ms in ["", "0", "-1", "1.5", "1e300", "nan", "inf", "-inf", "0x10", "99999999999999999"] {
        let mut call = redis::cmd("FCALL");
        let refused = call.arg("tidegate_revoke").arg(1).arg(&key).arg(&["token", "x", ms]);
        let refused = refused.query_async::<String>(&mut redis).await.unwrap_err().to_string();
        assert!(refused.contains("token or session or user, WHAT, MS"), "{ms}: {refused}");
        assert_eq!(command::<usize>(&mut redis, &["EXISTS", &key]).await, 0, "{ms}");
    }
    // A key that does not expire is not given the short life of its newest entry.
    let _: String =
        command(&mut redis, &["XADD", &key, "*", "k", "token", "w", "x", "a", "1", "u", "9000000000000000"]).await;
    log.revoke(&RevocationSubject::Token("short".into()), Duration::from_millis(500), false).await.unwrap();
    assert_eq!(command::<i64>(&mut redis, &["PTTL", &key]).await, -1);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_and_its_old_holder_refused() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let (frozen, successor) = (instance("gw-1", 1), instance("gw-1", 2));
    let stale = granted(&store, &frozen).await;
    store.write_rows(&frozen, &stale, &[put(1)]).await.unwrap();

    run_out(&mut redis, &frozen).await;
    let refused = store.write_rows(&frozen, &stale, &[put(2)]).await;
    assert_eq!(refused, Err(StoreError::Refused(Refusal::Expired)), "nobody took it yet, and still it is over");

    let asked = store.acquire(&successor, nth_heartbeat(0)).await.unwrap();
    let Acquired::Granted { token, before: Some(before), .. } = asked else { panic!("free: {asked:?}") };
    assert_eq!(before, frozen.incarnation);
    assert!(number(&token) > number(&stale));
    store.delete_rows(&successor, &token, before).await.unwrap();
    store.write_rows(&successor, &token, &[put(3)]).await.unwrap();

    // The frozen instance wakes up.
    for refused in [
        renew(&store, &frozen, &stale, nth_heartbeat(9)).await,
        store.write_rows(&frozen, &stale, &[put(2)]).await,
        store.release(&frozen, &stale).await.map(|()| DirectoryReply::default()),
        store.delete_rows(&frozen, &stale, successor.incarnation).await.map(|()| DirectoryReply::default()),
    ] {
        assert_eq!(refused, Err(StoreError::Refused(Refusal::Taken)));
    }
    let keys = Keyspace::default();
    let left: i64 = command(&mut redis, &["EXISTS", &keys.rows(&frozen.id, frozen.incarnation)]).await;
    assert_eq!(left, 0);
    assert_eq!(renew(&store, &successor, &token, nth_heartbeat(1)).await, listed(1));
}

#[tokio::test]
async fn a_lease_and_its_rows_end_by_themselves() {
    let server = RedisServer::start();
    let timings = unhurried();
    let (store, mut redis) = (server.store(timings, ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    let keys = Keyspace::default();
    let (lease, rows) = (keys.lease(&first.id), keys.rows(&first.id, first.incarnation));
    for key in [&lease, &rows] {
        let _: i64 = command(&mut redis, &["PEXPIRE", key, "40000"]).await;
    }
    renew(&store, &first, &token, nth_heartbeat(1)).await.unwrap();
    let lease_ms: i64 = command(&mut redis, &["PTTL", &lease]).await;
    let rows_ms: i64 = command(&mut redis, &["PTTL", &rows]).await;
    let (lease, rows) = (timings.lease.as_millis() as i64, timings.rows.as_millis() as i64);
    assert!((40_001..=lease).contains(&lease_ms), "renewed: {lease_ms} ms");
    assert!((lease..=rows).contains(&rows_ms), "outlives the lease: {rows_ms} ms");
}

#[tokio::test]
async fn after_a_failover_older_tokens_are_stale_although_the_lease_was_replicated() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let old = granted(&store, &first).await;
    store.write_rows(&first, &old, &[put(1)]).await.unwrap();
    let _: () = command(&mut redis, &["DEBUG", "CHANGE-REPL-ID"]).await;

    let stale = StoreError::Refused(Refusal::Generation);
    assert_eq!(renew(&store, &first, &old, nth_heartbeat(1)).await, Err(stale.clone()));
    assert_eq!(store.write_rows(&first, &old, &[put(2)]).await, Err(stale.clone()));
    assert_eq!(store.delete_rows(&first, &old, first.incarnation).await, Err(stale.clone()));
    assert_eq!(store.release(&first, &old).await, Err(stale));

    // A lease of the old generation does not keep out other incarnations.
    let second = instance("gw-1", 2);
    let new = granted(&store, &second).await;
    assert!(number(&new) > number(&old));
    assert_eq!(store.acquire(&first, nth_heartbeat(2)).await, Ok(Acquired::Busy { holder: second.incarnation }));
}

/// Redis' clock has been set back by five hours, and the first instance has not noticed it yet: its row is dated ahead.
#[tokio::test]
async fn a_row_dated_ahead_closes_no_newer_connection_and_is_decided_when_it_is_written_again() {
    let server = RedisServer::start();
    let store = server.store(unhurried(), ANY_NUMBER);
    let (first, second) = (instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(&store, &first).await, granted(&store, &second).await);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let at = |ms: u64| {
        let row = ConnectionRow { connected_at: Timestamp(ms), ..row("alice") };
        RowChange::Put(SessionId::from_random(1), row, Timestamp(ms))
    };
    store.write_rows(&first, &one, &[at(now + 5 * 3_600_000)]).await.unwrap();
    let newer = store.write_rows(&second, &two, &[at(now)]).await.unwrap();
    assert_eq!((newer.rows, newer.commands.len()), (1, 0), "the newer connection stays");
    assert_eq!(renew(&store, &first, &one, nth_heartbeat(1)).await, listed(1), "and the other one for now");
    // The first instance has noticed it. Its connection is the older one.
    let older = store.write_rows(&first, &one, &[at(now - 10_000)]).await.unwrap();
    assert_eq!((older.rows, older.commands.len()), (0, 1), "{older:?}");
    assert_eq!(renew(&store, &second, &two, nth_heartbeat(1)).await, listed(1));
}

#[tokio::test]
async fn a_redis_that_forgot_everything_gives_no_token_twice() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    // Faster than one per millisecond: a counter that restarts at the clock in ms repeated tokens here.
    let mut newest = granted(&store, &first).await;
    for _ in 0..50 {
        newest = granted(&store, &first).await;
    }
    let _: () = command(&mut redis, &["FLUSHALL"]).await;
    assert_eq!(renew(&store, &first, &newest, nth_heartbeat(1)).await, Err(StoreError::Refused(Refusal::Expired)));
    let token = granted(&store, &first).await;
    assert!(number(&token) > number(&newest), "{token:?} after {newest:?}");
    assert_eq!(renew(&store, &first, &newest, nth_heartbeat(1)).await, Err(StoreError::Refused(Refusal::Taken)));
}

#[tokio::test]
async fn a_full_redis_renews_and_frees_but_gives_no_new_lease() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    let _: () = command(&mut redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let refused: redis::RedisResult<()> =
        redis::cmd("SET").arg("x").arg(vec![b'x'; 1 << 20]).exec_async(&mut redis).await;
    assert!(refused.is_err_and(|error| error.code() == Some("OOM")), "the memory is full");

    assert_eq!(renew(&store, &first, &token, nth_heartbeat(1)).await, listed(1));
    assert_eq!(store.peers().await.map(|peers| peers.len()), Ok(1));
    let rejected = store.write_rows(&first, &token, &[put(2)]).await;
    assert!(matches!(&rejected, Err(StoreError::Rejected(why)) if why.contains("OOM")), "{rejected:?}");
    let rejected = store.acquire(&instance("gw-2", 2), nth_heartbeat(0)).await;
    assert!(matches!(&rejected, Err(StoreError::Rejected(why)) if why.contains("OOM")), "{rejected:?}");
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(2)).await, listed(1));
    assert_eq!(store.delete_rows(&first, &token, first.incarnation).await, Ok(()));
    assert_eq!(store.release(&first, &token).await, Ok(()));
}

#[tokio::test]
async fn the_library_is_loaded_when_it_is_missing_and_a_newer_one_left_alone() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["FUNCTION", "FLUSH"]).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(1)).await, listed(0));

    let newer = format!(
        "#!lua name={}\nredis.register_function{{function_name='{}', callback=function() return {{99, 'x'}} end, \
         flags={{'no-writes'}}}}",
        Library::NAME,
        Function::VERSION.name
    );
    let _: String = command(&mut redis, &["FUNCTION", "LOAD", "REPLACE", &newer]).await;
    let refused = renew(&store, &first, &token, nth_heartbeat(2)).await;
    assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("not found")), "{refused:?}");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_and_the_next_one_works() {
    let server = RedisServer::start();
    let timings = Timings { call: Duration::from_secs(3), ..unhurried() };
    let (store, mut redis) = (server.store(timings, ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(1)).await, Err(StoreError::NoAnswer(timings.call)));
    let _: () = command(&mut redis, &["CLIENT", "UNPAUSE"]).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(2)).await, listed(0));
}

/// One deadline covers all parts of a call: checking the pool's connection, opening another one, and the call itself.
#[tokio::test]
async fn a_call_takes_no_longer_than_its_deadline_whatever_hangs() {
    let server = RedisServer::start();
    let timings = Timings { call: Duration::from_secs(3), ..unhurried() };
    let (store, mut redis) = (server.store(timings, ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let _: () = command(&mut redis, &["CLIENT", "PAUSE", "9000", "ALL"]).await;
    let asked = Instant::now();
    let answer = renew(&store, &first, &token, nth_heartbeat(1)).await;
    // Both errors are right: the pool's own deadline ends together with the call's.
    assert!(matches!(answer, Err(StoreError::Unreachable(_) | StoreError::NoAnswer(_))), "{answer:?}");
    assert!(asked.elapsed() < 2 * timings.call, "gave up after {:?}", asked.elapsed());
    while let Err(error) = renew(&store, &first, &token, nth_heartbeat(2)).await {
        assert!(error.may_retry(), "{error}");
        assert!(asked.elapsed() < support::PATIENCE, "Redis answers again, the store does not: {error}");
    }
}

#[tokio::test]
async fn no_redis_is_a_plain_error() {
    let server = RedisServer::start();
    let store = server.store(unhurried(), ANY_NUMBER);
    drop(server);
    let answer = store.acquire(&instance("gw-1", 1), nth_heartbeat(0)).await;
    assert!(matches!(answer, Err(StoreError::Unreachable(_))), "{answer:?}");
}

/// A live peer is never removed, whatever the instance that asks assumes. A dead peer is removed by one instance.
#[tokio::test]
async fn only_the_dead_are_removed_and_by_one_peer() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let (dead, one, other) = (instance("gw-1", 1), instance("gw-2", 2), instance("gw-3", 3));
    let (last, first, second) =
        (granted(&store, &dead).await, granted(&store, &one).await, granted(&store, &other).await);
    store.write_rows(&dead, &last, &[put(1), put(2)]).await.unwrap();
    renew(&store, &dead, &last, nth_heartbeat(7)).await.unwrap();
    assert_eq!(store.reap(&one, &first, &dead, 7).await, Ok(None), "it holds its lease");

    run_out(&mut redis, &dead).await;
    assert_eq!(store.reap(&one, &first, &dead, 6).await, Ok(None), "it has sent a heartbeat since");
    let before = instance("gw-1", 9);
    assert_eq!(store.reap(&one, &first, &before, 7).await, Ok(None), "that one was gone long ago");
    let stale = StoreError::Refused(Refusal::Taken);
    assert_eq!(store.reap(&one, &second, &dead, 7).await, Err(stale), "who removes others must hold a lease");

    let both = tokio::join!(store.reap(&one, &first, &dead, 7), store.reap(&other, &second, &dead, 7));
    assert!(matches!(both, (Ok(Some(2)), Ok(None)) | (Ok(None), Ok(Some(2)))), "one winner: {both:?}");
    let keys = Keyspace::default();
    let left: i64 =
        command(&mut redis, &["EXISTS", &keys.rows(&dead.id, dead.incarnation), &keys.lease(&dead.id)]).await;
    assert_eq!(left, 0);
    assert_eq!(store.peers().await.unwrap().len(), 2);

    // The peer was only frozen: its lease has ended, and it may return.
    assert_eq!(store.write_rows(&dead, &last, &[put(3)]).await, Err(StoreError::Refused(Refusal::Expired)));
    granted(&store, &dead).await;
    assert_eq!(store.peers().await.unwrap().len(), 3);
}

/// A lease that an old primary granted keeps no instance alive on the new one.
#[tokio::test]
async fn a_lease_of_another_generation_keeps_no_dead_peer() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let (dead, one) = (instance("gw-1", 1), instance("gw-2", 2));
    let old = granted(&store, &dead).await;
    store.write_rows(&dead, &old, &[put(1)]).await.unwrap();
    // Changes the replication id as a promotion does, without a second server.
    let replid = |text: &str| text.split("master_replid:").nth(1).unwrap()[..40].to_owned();
    let was: String = command(&mut redis, &["INFO", "replication"]).await;
    let _: () = command(&mut redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let _: () = command(&mut redis, &["REPLICAOF", "NO", "ONE"]).await;
    let is: String = command(&mut redis, &["INFO", "replication"]).await;
    assert_ne!(replid(&was), replid(&is), "a promotion gives a new id");
    let token = granted(&store, &one).await;
    assert_eq!(store.reap(&one, &token, &dead, 0).await, Ok(Some(1)));
}

/// Only a bounded number of a user's connections is listed by name, and a higher limit is enforced nevertheless.
#[tokio::test]
async fn a_user_with_more_connections_than_are_named_is_held_to_its_limit_and_kicked() {
    let server = RedisServer::start();
    let limits = ConnectionLimits { per_user_max: 140, per_tenant_max: 0, on_excess: OnExcess::CloseOldest };
    let store = server.store(unhurried(), limits);
    let gw = instance("gw-1", 1);
    let token = granted(&store, &gw).await;
    for numbers in [0..100, 100..200, 200..300, 300..400] {
        let rows = store.write_rows(&gw, &token, &numbers.clone().map(put).collect::<Vec<_>>()).await.unwrap().rows;
        assert_eq!(rows as u128, numbers.end.min(140));
    }
    let (tenant, alice) = (TenantId::default(), UserId::parse("alice").unwrap());
    let named = store.who(&tenant, &alice).await.unwrap();
    assert_eq!(named.len(), 128);
    let gone: Vec<_> = named.iter().map(|registration| RowChange::Remove(registration.session)).collect();
    assert_eq!(store.write_rows(&gw, &token, &gone).await, listed(12));
    let reported = renew(&store, &gw, &token, nth_heartbeat(1)).await.unwrap().commands;
    store.kick(&tenant, &alice, None).await.unwrap();
    let kicked = InstanceCommand::User(tenant, alice, CloseReason::Kicked);
    assert!(!reported.contains(&kicked));
    assert!(renew(&store, &gw, &token, nth_heartbeat(2)).await.unwrap().commands.contains(&kicked));
}

/// The documented ACL line is enough for all calls of the registry.
#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let doc = include_str!("../../../docs/redis.md");
    let line = doc.lines().find(|line| line.starts_with("ACL SETUSER gateway ")).expect("the line is documented");
    let _: () = command(&mut redis, &line.split(' ').collect::<Vec<_>>()).await;
    let url = server.url().replace("redis://", "redis://gateway:PASSWORD@");
    let limits = ConnectionLimits { per_user_max: 1, per_tenant_max: 9, on_excess: OnExcess::CloseOldest };
    let store = store_at(&url, unhurried(), limits);
    let (first, second) = (instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(&store, &first).await, granted(&store, &second).await);
    store.write_rows(&first, &one, &[put(1)]).await.unwrap();
    store.write_rows(&second, &two, &[put(2)]).await.unwrap();
    assert_eq!(store.wait_for_wakeup(&first.id).await, Ok(true));
    assert_eq!(renew(&store, &first, &one, nth_heartbeat(1)).await.unwrap().commands.len(), 1);
    renew(&store, &first, &one, nth_heartbeat(2)).await.unwrap();
    let (tenant, alice) = (TenantId::default(), UserId::parse("alice").unwrap());
    assert_eq!(store.who(&tenant, &alice).await.unwrap().len(), 1);
    store.kick(&tenant, &alice, None).await.unwrap();
    let notice = Notice::parse(r#"{"event":"news","payload":1}"#).unwrap();
    store.send(&tenant, &alice, None, &notice).await.unwrap();
    store.write_rows(&second, &two, &[RowChange::Remove(SessionId::from_random(2))]).await.unwrap();
    store.delete_rows(&second, &two, second.incarnation).await.unwrap();
    run_out(&mut redis, &second).await;
    assert_eq!(store.reap(&first, &one, &second, 0).await, Ok(Some(0)));
    store.release(&first, &one).await.unwrap();
    let log: Vec<redis::Value> = command(&mut redis, &["ACL", "LOG"]).await;
    assert!(log.is_empty(), "{log:?}");
}

/// A count of connections that is not removed with the last row expires.
#[tokio::test]
async fn what_counts_connections_ends_by_itself() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(unhurried(), ANY_NUMBER), server.connection().await);
    let (first, second) = (instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(&store, &first).await, granted(&store, &second).await);
    store.write_rows(&first, &one, &[put(1)]).await.unwrap();
    store.write_rows(&second, &two, &[put(1)]).await.unwrap();
    for of in [first, second] {
        let users = Keyspace::default().users(&of.id, of.incarnation);
        let left_ms: i64 = command(&mut redis, &["PTTL", &users]).await;
        assert!((1..=unhurried().rows.as_millis() as i64).contains(&left_ms), "{users}: {left_ms}");
    }
}

/// The error names the cause, and the store looks for the primary again before its next call.
#[tokio::test]
async fn a_demoted_primary_says_so() {
    let server = RedisServer::start();
    let (store, mut redis) = (server.store(Timings::default(), ANY_NUMBER), server.connection().await);
    let first = instance("gw-1", 1);
    granted(&store, &first).await;
    let _: () = command(&mut redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = store.acquire(&first, nth_heartbeat(1)).await;
    assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("read only")), "{refused:?}");
    let _: () = command(&mut redis, &["REPLICAOF", "NO", "ONE"]).await;
    granted(&store, &first).await;
}

/// The operator's calls, which need no instance.
#[tokio::test]
async fn a_user_is_found_and_kicked_wherever_it_is() {
    let server = RedisServer::start();
    let store = server.store(unhurried(), ANY_NUMBER);
    let (first, second) = (instance("gw-1", 1), instance("gw-2", 2));
    let (one, two) = (granted(&store, &first).await, granted(&store, &second).await);
    store.write_rows(&first, &one, &[put(1), put(2)]).await.unwrap();
    store
        .write_rows(
            &second,
            &two,
            &[put(3), RowChange::Put(SessionId::from_random(4), row("bob"), row("bob").connected_at)],
        )
        .await
        .unwrap();
    let (tenant, alice) = (TenantId::default(), UserId::parse("alice").unwrap());
    let places = |found: Vec<Connected>| {
        let mut places: Vec<_> =
            found.into_iter().map(|registration| (registration.instance.to_string(), registration.session)).collect();
        places.sort_by_key(|(gw, session): &(String, SessionId)| (gw.clone(), session.to_string()));
        places
    };
    let id = SessionId::from_random;
    let everywhere = [("gw-1", 1), ("gw-1", 2), ("gw-2", 3)].map(|(gw, n)| (gw.to_owned(), id(n)));
    assert_eq!(places(store.who(&tenant, &alice).await.unwrap()), everywhere);
    assert_eq!(store.who(&TenantId::parse("acme").unwrap(), &alice).await.unwrap(), []);

    assert_eq!(places(store.kick(&tenant, &alice, Some(id(2))).await.unwrap()), everywhere[1..2]);
    let reported = renew(&store, &first, &one, nth_heartbeat(1)).await.unwrap();
    let since = row("alice").connected_at;
    assert_eq!(
        reported.commands,
        [InstanceCommand::Session(SessionClose { session: id(2), why: CloseReason::Kicked }, Some(since))]
    );
    store.write_rows(&first, &one, &[RowChange::Remove(id(2))]).await.unwrap();
    assert_eq!(store.kick(&tenant, &alice, None).await.unwrap().len(), 2);
    for (instance, token) in [(&first, &one), (&second, &two)] {
        let reported = renew(&store, instance, token, nth_heartbeat(2)).await.unwrap();
        assert_eq!(
            reported.commands,
            [InstanceCommand::User(tenant.clone(), alice.clone(), CloseReason::Kicked)],
            "all of them, named or not"
        );
    }
}

#[tokio::test]
async fn a_failover_by_sentinels_is_followed_and_ends_the_lease() {
    let mut set = SentinelSet::start(&[]);
    let timings = Timings { call: Duration::from_secs(3), ..unhurried() };
    let store = support::store_at(&set.url(), timings, ANY_NUMBER);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(1)).await, listed(0));
    set.expect_a_failure();
    set.servers[0].crash();
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        match renew(&store, &first, &token, nth_heartbeat(2)).await {
            Err(StoreError::Unreachable(_) | StoreError::NoAnswer(_)) => {
                assert!(Instant::now() < deadline, "the new primary is never found");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => break answer,
        }
    };
    // The replica may not have received the lease. If it has, the token is of another Redis.
    let lost = [Refusal::Generation, Refusal::Expired].map(|why| Err(StoreError::Refused(why)));
    assert!(lost.contains(&refused), "{refused:?}");
    let token = granted(&store, &first).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(3)).await, listed(0));
}

#[tokio::test]
async fn a_cluster_keeps_the_registry_at_the_node_of_its_slot_wherever_that_is() {
    let cluster = RedisCluster::start();
    let store = support::store_at(&cluster.url(), unhurried(), ANY_NUMBER);
    let slot = Keyspace::default().registry_slot().number();
    let owner = (0..3).find(|index| RedisCluster::slots_of(*index).contains(&slot)).unwrap();
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    store.write_rows(&first, &token, &[put(1)]).await.unwrap();
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(1)).await, listed(1));

    // A call waits while the keys are on both nodes. The move ends before the call's deadline.
    let other = (owner + 1) % 3;
    cluster.begin_move(slot, owner, other);
    assert!(cluster.move_keys(slot, owner, other) > 0);
    let renewing = tokio::spawn({
        let (store, first, token) = (store.clone(), first.clone(), token.clone());
        async move { renew(&store, &first, &token, nth_heartbeat(2)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!renewing.is_finished(), "the slot is on its way");
    cluster.end_move(slot, owner, other);
    // The token is of the node that issued it, as after a failover.
    assert_eq!(renewing.await.unwrap(), Err(StoreError::Refused(Refusal::Generation)));
    let token = granted(&store, &first).await;
    assert_eq!(renew(&store, &first, &token, nth_heartbeat(3)).await, listed(1));
    assert_eq!(store.peers().await.unwrap().len(), 1);
}

/// What another program may have written: bytes without a meaning, numbers out of range, and text of another form.
const FOREIGN: [&[u8]; 12] = [
    b"",
    b"garbage",
    b"\xff\xfe\x00",
    b"-1",
    b"-1 -",
    b"1e999",
    b"99999999999999999999999999 {}",
    b"5 []",
    b"5 {\"incarnation\":7,\"heartbeat\":\"x\"}",
    b"5 {\"incarnation\":\"zz\",\"heartbeat\":-1,\"address\":1}",
    b"s@99999999999999999999999 @ x@-1 @5",
    b"{\"tenant\":7,\"user\":null,\"connected_at\":5}",
];

/// Every key of the registry that exists, and those that may.
async fn registry_keys(redis: &mut MultiplexedConnection, first: &Instance) -> Vec<String> {
    let keys = Keyspace::default();
    let mut names: Vec<String> = command(redis, &["KEYS", "tidegate:{registry}*"]).await;
    let per_incarnation = |kind: &str| format!("tidegate:{{registry}}:{kind}:{}:{}", first.id, first.incarnation);
    names.extend(["rows", "users", "commands", "present", "stale"].map(per_incarnation));
    names.extend([
        keys.fence(),
        keys.peers(),
        keys.wakeup(&first.id),
        format!("{}:pending", keys.commands(&first.id, first.incarnation)),
        "tidegate:{registry}:leaving".to_owned(),
        "tidegate:{registry}:presence".to_owned(),
        "tidegate:{registry}:members:acme/collection:x".to_owned(),
        format!("tidegate:{{registry}}:record:acme/alice:{}", SessionId::from_random(1)),
    ]);
    names.sort();
    names.dedup();
    names.retain(|name| !name.contains(":lease:"));
    names
}

/// Makes every call of the store and of the operators. None may fail.
async fn every_call(store: &RedisStore, first: &Instance, token: &Token, number: u64, why: &str) {
    let (acme, alice) = (TenantId::parse("acme").unwrap(), UserId::parse("alice").unwrap());
    let scope = wire::Families::default().parse_scope("acme/collection:x").unwrap();
    let renewed = store.renew(first, token, nth_heartbeat(number), number - 1).await;
    assert!(renewed.is_ok(), "{why}: {renewed:?}");
    let written = store.write_rows(first, token, &[put(1), put(u128::from(number) + 10)]).await;
    assert!(written.is_ok(), "{why}: {written:?}");
    let peers = store.peers().await;
    assert!(
        peers.as_ref().is_ok_and(|peers| peers.iter().any(|peer| peer.instance.id == first.id)),
        "{why}: {peers:?}"
    );
    let changes = [connection_registry::MemberChange::Enter(scope.clone(), alice.clone(), None)];
    let entered = store.write_members(first, token, &changes).await;
    assert!(entered.is_ok(), "{why}: {entered:?}");
    let listed = connection_registry::PresenceReader::list_members(store, &[scope], 9).await;
    assert!(listed.is_ok(), "{why}: {listed:?}");
    let who = store.who(&acme, &alice).await;
    assert!(who.is_ok(), "{why}: {who:?}");
    let kicked = store.kick(&acme, &alice, None).await;
    assert!(kicked.is_ok(), "{why}: {kicked:?}");
    let notice = Notice::parse(r#"{"event":"e","payload":1}"#).expect("a notice");
    let sent = store.send(&acme, &alice, None, &notice).await;
    assert!(sent.is_ok(), "{why}: {sent:?}");
    let second = instance("gw-2", 2);
    assert!(matches!(store.acquire(&second, nth_heartbeat(0)).await, Ok(Acquired::Granted { .. })), "{why}");
}

/// A value of another type, or one of another form in any field, costs its row and nothing else: heartbeats go on, and
/// operators' commands work.
#[tokio::test]
async fn what_another_program_writes_into_the_registry_costs_its_own_row_alone() {
    let server = RedisServer::start();
    let limits = ConnectionLimits { per_user_max: 5, per_tenant_max: 50, on_excess: OnExcess::CloseOldest };
    let (store, mut redis) = (server.store(unhurried(), limits), server.connection().await);
    let first = instance("gw-1", 1);
    let token = granted(&store, &first).await;
    let mut number = 1;
    every_call(&store, &first, &token, number, "nothing written").await;
    for key in registry_keys(&mut redis, &first).await {
        // Another type.
        for foreign in
            [&["SET", &*key, "x"][..], &["RPUSH", &key, "x"], &["SADD", &key, "x"], &["HSET", &key, "x", "y"]]
        {
            let _: i64 = command(&mut redis, &["UNLINK", &key]).await;
            let _: redis::Value = command(&mut redis, foreign).await;
            number += 1;
            every_call(&store, &first, &token, number, &format!("{foreign:?}")).await;
        }
        // The right type, with other contents: in each field that exists, and in one that does not.
        let _: i64 = command(&mut redis, &["UNLINK", &key]).await;
        number += 1;
        every_call(&store, &first, &token, number, &key).await;
        let kind: String = command(&mut redis, &["TYPE", &key]).await;
        for foreign in FOREIGN {
            let mut fields: Vec<Vec<u8>> = Vec::new();
            if kind == "hash" {
                fields = redis::cmd("HKEYS").arg(&key).query_async(&mut redis).await.unwrap();
            }
            // Its own entry among the peers is what makes an instance known.
            fields.retain(|field| field != first.id.as_str().as_bytes());
            fields.extend([b"evil".to_vec(), b"\xff".to_vec(), b"#acme/alice".to_vec(), b"-".to_vec()]);
            for field in fields {
                let mut write = match kind.as_str() {
                    "string" => redis::cmd("SET"),
                    "list" => redis::cmd("RPUSH"),
                    "set" => redis::cmd("SADD"),
                    "zset" => redis::cmd("ZADD"),
                    "stream" => redis::cmd("XADD"),
                    _ => redis::cmd("HSET"),
                };
                write.arg(&key);
                match kind.as_str() {
                    "string" | "list" | "set" => write.arg(foreign),
                    "zset" => write.arg("0").arg(foreign),
                    "stream" => write.arg("*").arg(&field).arg(foreign),
                    _ => write.arg(&field).arg(foreign),
                };
                write.exec_async(&mut redis).await.unwrap();
                number += 1;
                let why = format!("{key} {:?} {:?}", String::from_utf8_lossy(&field), String::from_utf8_lossy(foreign));
                every_call(&store, &first, &token, number, &why).await;
            }
        }
        let _: i64 = command(&mut redis, &["UNLINK", &key]).await;
    }
}
