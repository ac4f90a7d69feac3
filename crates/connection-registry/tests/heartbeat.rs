//! Heartbeat tasks on a store, with short intervals.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use connection_registry::{
    Acquired, CloseReason, ClosedSessionRecord, ConnectionLimits, ConnectionRow, DirectoryReply, Duty, Heartbeat,
    HeartbeatConfig, HeartbeatHandle, HeartbeatTask, Incarnation, Instance, LeaseRenewal, LeaseState, Load,
    LookupResult, Loss, MemberChange, MemoryStore, OnExcess, PeerHeartbeat, Peers, ROW_CHANGES_MAX, RecordLookup,
    RestoreRequest, RestoreResult, RowChange, SessionClose, SessionCommand, SessionRecord, Status, Store, StoreError,
    Timings, Token,
};
use keyspace::Keyspace;
use redis::aio::MultiplexedConnection;
use support::{ANY_NUMBER, PATIENCE, RedisServer, command, instance, nth_heartbeat, row, unhurried};
use tokio::sync::watch;
use tokio::time::timeout;
use wire::{InstanceId, SessionId, Timestamp};

/// A lease that is long enough for a busy machine, and short enough for a test to wait for its end.
const TIMINGS: Timings = Timings {
    heartbeat: Duration::from_millis(500),
    lease: Duration::from_millis(4_000),
    reap: Duration::from_millis(5_000),
    call: Duration::from_millis(500),
    rows: Duration::from_millis(60_000),
    grace: Duration::from_millis(300),
    record: Duration::from_millis(60_000),
};

fn start<S: Store>(id: &str, store: S) -> HeartbeatHandle {
    let id = InstanceId::parse(id).unwrap();
    HeartbeatTask::start(HeartbeatConfig { id, address: "127.0.0.1:1".into(), timings: TIMINGS }, store, || {
        nth_heartbeat(0).load
    })
}

async fn reaches<T: Clone + std::fmt::Debug>(watch: &mut watch::Receiver<T>, what: impl FnMut(&T) -> bool) -> T {
    let seen = timeout(PATIENCE, watch.wait_for(what)).await.map(|seen| seen.expect("the heartbeat task runs").clone());
    seen.unwrap_or_else(|_| panic!("never came: it is {:?}", watch.borrow()))
}

async fn held(heartbeat: &HeartbeatHandle) -> Token {
    match reaches(&mut heartbeat.lease.clone(), |state| matches!(state, LeaseState::Held { .. })).await {
        LeaseState::Held { token, .. } => token,
        other => panic!("waited for Held: {other:?}"),
    }
}

/// Waits until the lease is reported as not renewed, which happens only before it ends. A heartbeat task that a busy
/// machine delays for longer reports that it is fenced.
async fn unrenewed(lease: &mut watch::Receiver<LeaseState>) {
    let LeaseState::Held { end: Some(mut last), .. } = lease.borrow_and_update().clone() else { panic!("it is held") };
    loop {
        timeout(PATIENCE, lease.changed()).await.expect("a word in time").expect("the heartbeat task runs");
        match lease.borrow_and_update().clone() {
            LeaseState::Held { end, .. } => last = end.expect("it ends"),
            LeaseState::Fenced if Instant::now() >= last => return,
            state => return assert_eq!(state, LeaseState::Lost(Loss::Unrenewed)),
        }
    }
}

/// This instance in its current incarnation.
fn own(heartbeat: &HeartbeatHandle) -> Instance {
    heartbeat.peers.borrow().own.clone()
}

async fn rows(redis: &mut MultiplexedConnection, instance: &Instance) -> Vec<String> {
    let mut ids: Vec<String> = command(redis, &["HKEYS", &rows_key(instance)]).await;
    ids.sort();
    ids
}

fn rows_key(instance: &Instance) -> String {
    Keyspace::default().rows(&instance.id, instance.incarnation)
}

/// Waits until Redis lists exactly these sessions.
async fn lists(redis: &mut MultiplexedConnection, instance: &Instance, sessions: &[u128]) {
    let expected: Vec<String> = sessions.iter().map(|n| SessionId::from_random(*n).to_string()).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = rows(redis, instance).await;
        if seen == expected {
            return;
        }
        assert!(Instant::now() < until, "Redis lists {seen:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_are_listed_until_they_end_and_nothing_is_left_behind() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    let early = heartbeat.directory.connect(SessionId::from_random(1), row("alice"));
    held(&heartbeat).await;
    let gw = own(&heartbeat);
    lists(&mut redis, &gw, &[1]).await;
    let text: String = command(&mut redis, &["HGET", &rows_key(&gw), &SessionId::from_random(1).to_string()]).await;
    // The time of arrival is by Redis' clock, whatever the local clock says.
    let reported = r#"{"tenant":"default","user":"alice","shard":1,"connected_at":""#;
    assert!(text.starts_with(reported) && !text.contains("2026-11-20T12:00:00"), "{text}");

    let _late = heartbeat.directory.connect(SessionId::from_random(2), row("bob"));
    heartbeat.directory.disconnect(early);
    lists(&mut redis, &gw, &[2]).await;

    let mut lease = heartbeat.lease.clone();
    heartbeat.stop().await;
    assert_eq!(*lease.borrow_and_update(), LeaseState::Lost(Loss::Released));
    let left: Vec<String> = command(&mut redis, &["KEYS", "*"]).await;
    assert_eq!(left, [Keyspace::default().fence()], "only the counter of tokens stays");
}

#[tokio::test]
async fn rows_that_redis_lost_are_written_again() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    let _registrations = [1, 2, 3].map(|n| heartbeat.directory.connect(SessionId::from_random(n), row("alice")));
    let first = held(&heartbeat).await;
    let gw = own(&heartbeat);
    lists(&mut redis, &gw, &[1, 2, 3]).await;
    // Another client of Redis removes the rows only.
    let _: i64 = command(&mut redis, &["DEL", &rows_key(&gw)]).await;
    lists(&mut redis, &gw, &[1, 2, 3]).await;
    // All data is lost: also the lease under which the rows were written.
    let _: () = command(&mut redis, &["FLUSHALL"]).await;
    lists(&mut redis, &gw, &[1, 2, 3]).await;
    assert_ne!(held(&heartbeat).await, first);
    // A failover changes the replication id.
    let before = held(&heartbeat).await;
    let _: () = command(&mut redis, &["DEBUG", "CHANGE-REPL-ID"]).await;
    let is_new = |state: &LeaseState| matches!(state, LeaseState::Held { token, .. } if *token != before);
    reaches(&mut heartbeat.lease.clone(), is_new).await;
    lists(&mut redis, &gw, &[1, 2, 3]).await;
    assert_eq!(own(&heartbeat), gw, "no new incarnation: nobody else acted meanwhile");
    heartbeat.stop().await;
}

#[tokio::test]
async fn without_redis_the_lease_is_said_to_be_lost_before_it_ends() {
    let server = RedisServer::start();
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    held(&heartbeat).await;
    drop(server);
    unrenewed(&mut heartbeat.lease.clone()).await;
    heartbeat.stop().await;
}

#[tokio::test]
async fn the_deadline_is_published_although_a_call_hangs() {
    let heartbeat = start("gw-1", Bent::<_, true> { hangs: true, ..Bent::new(MemoryStore::new(ANY_NUMBER, TIMINGS)) });
    held(&heartbeat).await;
    unrenewed(&mut heartbeat.lease.clone()).await;
}

#[tokio::test]
async fn an_instance_whose_lease_was_taken_is_fenced_and_returns_as_a_new_incarnation() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let store = server.store(TIMINGS, ANY_NUMBER);
    let heartbeat = start("gw-1", store.clone());
    let _registration = heartbeat.directory.connect(SessionId::from_random(1), row("alice"));
    held(&heartbeat).await;
    let fenced = own(&heartbeat);
    lists(&mut redis, &fenced, &[1]).await;

    // The lease expires unnoticed, and another process with the same id takes it.
    let thief = instance("gw-1", 9);
    let mut lease = heartbeat.lease.clone();
    let stolen = loop {
        let _: i64 = command(&mut redis, &["DEL", &Keyspace::default().lease(&fenced.id)]).await;
        if let Ok(Acquired::Granted { token, .. }) = store.acquire(&thief, nth_heartbeat(0)).await {
            break token;
        }
    };
    reaches(&mut lease, |state| *state == LeaseState::Fenced).await;
    reaches(&mut lease, |state| *state == LeaseState::Lost(Loss::Busy(thief.incarnation))).await;
    store.release(&thief, &stolen).await.unwrap();
    reaches(&mut lease, |state| matches!(state, LeaseState::Held { .. })).await;
    let next = reaches(&mut heartbeat.peers.clone(), |peers| peers.own != fenced).await.own;
    assert_eq!(next.id, fenced.id);
    lists(&mut redis, &next, &[1]).await;
    heartbeat.stop().await;
}

#[tokio::test]
async fn instances_see_each_other_come_and_go() {
    let server = RedisServer::start();
    let first = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    let second = start("gw-2", server.store(TIMINGS, ANY_NUMBER));
    let is_up = |peers: &Peers, id: &str| {
        peers.others.iter().any(|peer| peer.instance.id.as_str() == id && peer.status == Status::Up)
    };
    reaches(&mut first.peers.clone(), |peers| is_up(peers, "gw-2")).await;
    reaches(&mut second.peers.clone(), |peers| is_up(peers, "gw-1")).await;
    let mut peers = first.peers.clone();
    second.stop().await;
    let left = reaches(&mut peers, |peers| peers.others.is_empty()).await;
    assert!(!left.doubted);
    first.stop().await;
}

/// Peers learn an instance's load with its heartbeats, and after a wake-up at once.
#[tokio::test]
async fn peers_learn_how_an_instance_is_doing() {
    let server = RedisServer::start();
    let first = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    let slow = Timings {
        heartbeat: Duration::from_secs(10),
        lease: Duration::from_secs(40),
        reap: Duration::from_secs(50),
        rows: Duration::from_secs(100),
        ..TIMINGS
    };
    let config =
        HeartbeatConfig { id: InstanceId::parse("gw-2").unwrap(), address: "127.0.0.1:2".into(), timings: slow };
    let draining = Arc::new(AtomicBool::new(false));
    let load = {
        let draining = Arc::clone(&draining);
        move || {
            let duty = if draining.load(Ordering::Relaxed) { Duty::Draining } else { Duty::Full };
            Load { connections: 7, connects_per_second: 50, duty }
        }
    };
    let second = HeartbeatTask::start(config, server.store(slow, ANY_NUMBER), load);
    let tells = |duty| {
        let load = Load { connections: 7, connects_per_second: 50, duty };
        move |peers: &Peers| peers.others.iter().any(|peer| peer.load == Some(load))
    };
    reaches(&mut first.peers.clone(), tells(Duty::Full)).await;
    held(&second).await;
    // The second heartbeat follows after a random part of the pause: wait until it is over.
    reaches(&mut second.peers.clone(), |peers| peers.seen.is_some()).await;
    let mut looks = second.peers.clone();
    looks.mark_unchanged();
    timeout(PATIENCE, looks.changed()).await.expect("a heartbeat").expect("the heartbeat task runs");
    draining.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    second.wakeup.notify_one();
    reaches(&mut first.peers.clone(), tells(Duty::Draining)).await;
    assert!(asked.elapsed() < Duration::from_secs(8), "at the next heartbeat only: {:?}", asked.elapsed());
    first.stop().await;
    second.stop().await;
}

/// A user's connections are counted over the fleet, and an instance learns within moments which of them to close.
#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_one_elsewhere_at_its_heartbeat() {
    let server = RedisServer::start();
    let limits = ConnectionLimits { per_user_max: 2, per_tenant_max: 0, on_excess: OnExcess::CloseOldest };
    // The second instance has heartbeats that are long after the end of this test.
    let slow = unhurried();
    let mut heartbeats = [("gw-1", TIMINGS), ("gw-2", slow)].map(|(id, timings)| {
        let id = InstanceId::parse(id).unwrap();
        let config = HeartbeatConfig { id, address: "127.0.0.1:1".into(), timings };
        HeartbeatTask::start(config, server.store(timings, limits), || nth_heartbeat(0).load)
    });
    let mut redis = server.connection().await;
    let connect = |heartbeat: &HeartbeatHandle, n: u64| {
        let row = row("alice");
        let connected_at = Timestamp(row.connected_at.0 + n);
        heartbeat.directory.connect(SessionId::from_random(n.into()), ConnectionRow { connected_at, ..row })
    };
    held(&heartbeats[0]).await;
    held(&heartbeats[1]).await;
    let first = connect(&heartbeats[0], 1);
    lists(&mut redis, &own(&heartbeats[0]), &[1]).await;
    let _second = connect(&heartbeats[1], 2);
    lists(&mut redis, &own(&heartbeats[1]), &[2]).await;
    let asked = Instant::now();
    let _third = connect(&heartbeats[1], 3);
    lists(&mut redis, &own(&heartbeats[1]), &[2, 3]).await;
    assert!(asked.elapsed() < slow.heartbeat / 2, "it did not wait for a heartbeat: {:?}", asked.elapsed());
    let reported = timeout(PATIENCE, heartbeats[0].session_commands.recv()).await.expect("it gets a command").unwrap();
    let one = SessionClose { session: SessionId::from_random(1), why: CloseReason::Replaced };
    assert_eq!(reported, SessionCommand::Close(one, first.number()));
    heartbeats[0].directory.disconnect(first);
    lists(&mut redis, &own(&heartbeats[0]), &[]).await;
    assert!(heartbeats[1].session_commands.try_recv().is_err(), "nobody else has to go");
    for heartbeat in heartbeats {
        heartbeat.stop().await;
    }
}

/// Redis has carried out a call and its answer got lost. The connection to close is not listed any more, and must not
/// stay open.
#[tokio::test]
async fn commands_in_an_answer_that_was_lost_are_sent_again_and_once() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let store = Bent::<_, true>::new(server.store(TIMINGS, ANY_NUMBER));
    store.undelivered.store(2, Ordering::Relaxed);
    let mut heartbeat = start("gw-1", store.clone());
    held(&heartbeat).await;
    let session = SessionId::from_random(1);
    let registration = heartbeat.directory.connect(session, row("alice"));
    lists(&mut redis, &own(&heartbeat), &[1]).await;

    let elsewhere = instance("gw-2", 2);
    let Ok(Acquired::Granted { token, .. }) = store.inner.acquire(&elsewhere, nth_heartbeat(0)).await else {
        panic!("free")
    };
    let later = Timestamp(u64::MAX >> 20);
    let put = RowChange::Put(session, ConnectionRow { connected_at: later, ..row("alice") }, later);
    store.inner.write_rows(&elsewhere, &token, &[put]).await.unwrap();
    let reported = timeout(PATIENCE, heartbeat.session_commands.recv()).await.expect("it gets a command").unwrap();
    assert_eq!(
        reported,
        SessionCommand::Close(SessionClose { session, why: CloseReason::Replaced }, registration.number())
    );
    assert_eq!(store.undelivered.load(Ordering::Relaxed), 0);
    let acknowledged = store.heartbeats.load(Ordering::Relaxed);
    let mut lease = heartbeat.lease.clone();
    while store.heartbeats.load(Ordering::Relaxed) < acknowledged + 3 {
        lease.mark_unchanged();
        timeout(PATIENCE, lease.changed()).await.expect("it sends heartbeats").unwrap();
    }
    assert!(heartbeat.session_commands.try_recv().is_err(), "the answer was read");
    heartbeat.stop().await;
}

/// Commands identify connections by the times of arrival that rows have until they are written again.
#[tokio::test]
async fn commands_are_followed_that_come_with_missing_rows() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let mut heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    held(&heartbeat).await;
    let [kicked, _missing] = [1, 2].map(|n| heartbeat.directory.connect(SessionId::from_random(n), row("alice")));
    lists(&mut redis, &own(&heartbeat), &[1, 2]).await;
    let (gw, keys) = (own(&heartbeat), Keyspace::default());
    let (users, commands) = (keys.users(&gw.id, gw.incarnation), keys.commands(&gw.id, gw.incarnation));
    let listed: String = command(&mut redis, &["HGET", &users, "default/alice"]).await;
    let [session, other] = [1, 2].map(|n| SessionId::from_random(n).to_string());
    let registration = listed.split(' ').find(|registration| registration.starts_with(&session)).expect("it is listed");
    let why = format!("kicked@{}", registration.split_once('@').unwrap().1);
    let both = "redis.call('HDEL', KEYS[1], ARGV[1]) return redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])";
    let _: i64 = command(&mut redis, &["EVAL", both, "2", &rows_key(&gw), &commands, &other, &session, &why]).await;
    let reported = timeout(PATIENCE, heartbeat.session_commands.recv()).await.expect("it gets a command").unwrap();
    let closing = SessionClose { session: SessionId::from_random(1), why: CloseReason::Kicked };
    assert_eq!(reported, SessionCommand::Close(closing, kicked.number()));
    heartbeat.stop().await;
}

/// A client moves to another instance and back, before the first one has read the command to close its old connection.
#[tokio::test]
async fn a_client_that_has_come_back_is_not_closed_for_the_connection_it_had_before() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let mut heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    held(&heartbeat).await;
    let session = SessionId::from_random(1);
    let _now = heartbeat.directory.connect(session, row("alice"));
    lists(&mut redis, &own(&heartbeat), &[1]).await;
    let gw = own(&heartbeat);
    let commands = Keyspace::default().commands(&gw.id, gw.incarnation);
    let listed: Vec<String> = command(&mut redis, &["HVALS", &Keyspace::default().users(&gw.id, gw.incarnation)]).await;
    let now: u64 = listed.iter().find_map(|text| text.split_once('@')).expect("it is listed").1.parse().unwrap();
    for since in [now - 1, now] {
        let why = format!("replaced@{since}");
        let _: i64 = command(&mut redis, &["HSET", &commands, &session.to_string(), &why]).await;
        while command::<bool>(&mut redis, &["EXISTS", &commands]).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The command has been fetched and passed on before the next heartbeat.
        heartbeat.lease.mark_unchanged();
        timeout(PATIENCE, heartbeat.lease.changed()).await.expect("it sends heartbeats").unwrap();
        assert_eq!(heartbeat.session_commands.try_recv().is_ok(), since == now, "of {since}, when it is {now}");
    }
    heartbeat.stop().await;
}

/// A wall clock that is wrong does not change which connection of a session is the later one.
#[tokio::test]
async fn a_clock_that_is_hours_ahead_does_not_make_its_connections_the_later_ones() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let [mut ahead, mut right] = ["gw-1", "gw-2"].map(|id| start(id, server.store(TIMINGS, ANY_NUMBER)));
    held(&ahead).await;
    held(&right).await;
    let (session, row) = (SessionId::from_random(1), row("alice"));
    let connected_at = Timestamp(row.connected_at.0 + 5 * 3_600_000);
    let older = ahead.directory.connect(session, ConnectionRow { connected_at, ..row.clone() });
    lists(&mut redis, &own(&ahead), &[1]).await;
    let _newer = right.directory.connect(session, row);
    lists(&mut redis, &own(&right), &[1]).await;
    let reported = timeout(PATIENCE, ahead.session_commands.recv()).await.expect("it gets a command").unwrap();
    assert_eq!(reported, SessionCommand::Close(SessionClose { session, why: CloseReason::Replaced }, older.number()));
    assert!(right.session_commands.try_recv().is_err(), "the later one stays");
    ahead.stop().await;
    right.stop().await;
}

/// A busy machine that reads answers late does not change which connection of a session is the later one.
#[tokio::test]
async fn an_instance_whose_answers_come_late_does_not_date_its_connections_too_early() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let mut right = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    let timings = Timings::default();
    let store = Bent::<_, true>::new(server.store(timings, ANY_NUMBER));
    let (id, late_ms) = (InstanceId::parse("gw-2").unwrap(), Arc::clone(&store.late_ms));
    late_ms.store(1_000, Ordering::Relaxed);
    let mut busy = HeartbeatTask::start(HeartbeatConfig { id, address: "127.0.0.1:1".into(), timings }, store, || {
        nth_heartbeat(0).load
    });
    held(&right).await;
    held(&busy).await;
    let session = SessionId::from_random(1);
    let older = right.directory.connect(session, row("alice"));
    lists(&mut redis, &own(&right), &[1]).await;
    let _newer = busy.directory.connect(session, row("alice"));
    let reported = timeout(PATIENCE, right.session_commands.recv()).await.expect("it gets a command").unwrap();
    assert_eq!(reported, SessionCommand::Close(SessionClose { session, why: CloseReason::Replaced }, older.number()));
    lists(&mut redis, &own(&busy), &[1]).await;
    assert!(busy.session_commands.try_recv().is_err(), "the later one stays");
    right.stop().await;

    // With quick answers the times of arrival become exact.
    late_ms.store(0, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    for number in 2.. {
        let before: (u64, u64) = command(&mut redis, &["TIME"]).await;
        let registration = busy.directory.connect(SessionId::from_random(number), row("bob"));
        lists(&mut redis, &own(&busy), &[1, number]).await;
        let gw = own(&busy);
        let users = Keyspace::default().users(&gw.id, gw.incarnation);
        let listed: String = command(&mut redis, &["HGET", &users, "default/bob"]).await;
        let since: u64 = listed.split_once('@').expect("one is listed").1.parse().unwrap();
        if since + 500 > before.0 * 1_000 + before.1 / 1_000 {
            break;
        }
        assert!(Instant::now() < until, "a connection of {before:?} is dated {since}");
        busy.directory.disconnect(registration);
        lists(&mut redis, &own(&busy), &[1]).await;
    }
    busy.stop().await;
}

/// Otherwise the older connection of a session would count as the newer one for as long as the clock was set back.
#[tokio::test]
async fn connections_are_dated_anew_when_the_clock_of_redis_is_set() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let store = Bent::<_, true>::new(server.store(TIMINGS, ANY_NUMBER));
    store.ahead_ms.store(3_600_000, Ordering::Relaxed);
    let heartbeat = start("gw-1", store.clone());
    held(&heartbeat).await;
    let session = SessionId::from_random(1);
    let _registration = heartbeat.directory.connect(session, row("alice"));
    let users = Keyspace::default().users(&own(&heartbeat).id, own(&heartbeat).incarnation);
    let mut dated_ahead = async || {
        let until = Instant::now() + PATIENCE;
        loop {
            let (now, _): (u64, u64) = command(&mut redis, &["TIME"]).await;
            let listed: Option<String> = command(&mut redis, &["HGET", &users, "default/alice"]).await;
            if let Some((_, since)) = listed.as_deref().and_then(|listed| listed.split_once('@')) {
                return since.parse::<u64>().unwrap() > (now + 1_800) * 1_000;
            }
            assert!(Instant::now() < until, "nobody is listed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(dated_ahead().await);
    store.ahead_ms.store(0, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while dated_ahead().await {
        assert!(Instant::now() < until, "it is never dated anew");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    heartbeat.stop().await;
}

#[tokio::test]
async fn a_killed_instance_and_its_rows_are_removed_by_its_peers() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let incarnation = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let doomed = {
        let _entered = incarnation.enter();
        start("gw-dead", server.store(TIMINGS, ANY_NUMBER))
    };
    let _registration = doomed.directory.connect(SessionId::from_random(1), row("alice"));
    held(&doomed).await;
    let dead = own(&doomed);
    lists(&mut redis, &dead, &[1]).await;
    let survivors = ["gw-1", "gw-2"].map(|id| start(id, server.store(TIMINGS, ANY_NUMBER)));
    for heartbeat in &survivors {
        reaches(&mut heartbeat.peers.clone(), |peers| peers.others.len() == 2).await;
    }
    // As after kill -9: the lease is not released.
    incarnation.shutdown_background();
    for heartbeat in &survivors {
        reaches(&mut heartbeat.peers.clone(), |peers| peers.others.len() == 1).await;
    }
    lists(&mut redis, &dead, &[]).await;
    let peers: Vec<String> = command(&mut redis, &["HKEYS", &Keyspace::default().peers()]).await;
    assert!(!peers.contains(&"gw-dead".to_owned()), "{peers:?}");
    for heartbeat in survivors {
        heartbeat.stop().await;
    }
}

#[tokio::test]
async fn rows_of_a_killed_instance_without_peers_are_removed_by_its_next_life() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let incarnation = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let doomed = {
        let _entered = incarnation.enter();
        start("gw-1", server.store(TIMINGS, ANY_NUMBER))
    };
    let _registration = doomed.directory.connect(SessionId::from_random(1), row("alice"));
    held(&doomed).await;
    let dead = own(&doomed);
    lists(&mut redis, &dead, &[1]).await;
    incarnation.shutdown_background();
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER));
    held(&heartbeat).await;
    lists(&mut redis, &dead, &[]).await;
    heartbeat.stop().await;
}

#[tokio::test]
async fn an_idle_instance_writes_no_rows() {
    let store = Bent::<_, false>::new(MemoryStore::new(ANY_NUMBER, TIMINGS));
    let heartbeat = start("gw-1", store.clone());
    let _registrations: Vec<_> =
        (0..1_000).map(|n| heartbeat.directory.connect(SessionId::from_random(n), row("alice"))).collect();
    let heartbeats = |at_least: usize| {
        let (store, mut peers) = (store.clone(), heartbeat.peers.clone());
        async move {
            let until = store.heartbeats.load(Ordering::Relaxed) + at_least;
            reaches(&mut peers, move |_| store.heartbeats.load(Ordering::Relaxed) >= until).await;
        }
    };
    heartbeats(3).await;
    assert_eq!(store.sessions(&heartbeat), 1_000);
    let written = store.writes.load(Ordering::Relaxed);
    assert_eq!(written, 1_000_usize.div_ceil(ROW_CHANGES_MAX), "as few batches as may be");
    heartbeats(5).await;
    assert_eq!(store.writes.load(Ordering::Relaxed), written);
    heartbeat.stop().await;
}

#[tokio::test]
async fn rows_of_unknown_fate_are_written_again() {
    let store = Bent::<_, false>::new(MemoryStore::new(ANY_NUMBER, TIMINGS));
    store.unanswered.store(2, Ordering::Relaxed);
    let heartbeat = start("gw-1", store.clone());
    let _registration = heartbeat.directory.connect(SessionId::from_random(1), row("alice"));
    let seen = store.clone();
    reaches(&mut heartbeat.peers.clone(), move |_| seen.writes.load(Ordering::Relaxed) > 2).await;
    let mut peers = heartbeat.peers.clone();
    peers.mark_unchanged();
    timeout(PATIENCE, peers.changed()).await.expect("it sends heartbeats").unwrap();
    assert_eq!(store.sessions(&heartbeat), 1);
    heartbeat.stop().await;
}

/// So many sessions end at once that writing all their records would take longer than a lease lasts.
#[tokio::test]
async fn a_flood_of_records_does_not_keep_the_lease_from_being_renewed() {
    let store = Bent::<_, false>::new(MemoryStore::new(ANY_NUMBER, TIMINGS));
    let heartbeat = start("gw-1", store.clone());
    held(&heartbeat).await;
    store.slow_ms.store(50, Ordering::Relaxed);
    let (many, mut peers) = (50 * ROW_CHANGES_MAX, heartbeat.peers.clone());
    let ConnectionRow { tenant, user, connected_at: since, .. } = row("alice");
    for n in 0..many {
        let record = SessionRecord { channels: Vec::new(), exact: false };
        let (session, tenant, user, arrival) =
            (SessionId::from_random(n as u128), tenant.clone(), user.clone(), Instant::now());
        heartbeat.directory.restores().leave(ClosedSessionRecord { session, tenant, user, since, arrival, record });
    }
    while store.kept.load(Ordering::Relaxed) < many {
        timeout(PATIENCE, peers.changed()).await.expect("it sends heartbeats").unwrap();
    }
    // Half a heartbeat of calls in a heartbeat, and as much between two.
    let most = store.burst_max.load(Ordering::Relaxed);
    assert!(most < 20, "{most} calls between two renewals");
    heartbeat.stop().await;
}

/// A client waits for the answer, so lookups are repeated soon after an outage.
#[tokio::test]
async fn who_asks_for_a_record_in_an_outage_is_not_kept_waiting_for_heartbeats_after_it() {
    let timings = Timings::default();
    let store = Bent::<_, false>::new(MemoryStore::new(ANY_NUMBER, timings));
    let elsewhere = instance("gw-2", 2);
    let Ok(Acquired::Granted { token, .. }) = store.acquire(&elsewhere, nth_heartbeat(0)).await else { panic!("free") };
    let (session, ConnectionRow { tenant, user, connected_at: since, shard }) =
        (SessionId::from_random(1), row("alice"));
    let put = RowChange::Put(session, row("alice"), since);
    store.write_rows(&elsewhere, &token, &[put]).await.unwrap();

    let config = HeartbeatConfig { id: InstanceId::parse("gw-1").unwrap(), address: "127.0.0.1:1".into(), timings };
    let mut heartbeat = HeartbeatTask::start(config, store.clone(), || nth_heartbeat(0).load);
    held(&heartbeat).await;
    store.unanswered_takes.store(1, Ordering::Relaxed);
    let arrival = Instant::now();
    let (registration, _) = heartbeat.directory.wait(session, row("alice"), arrival);
    let ask =
        RestoreRequest { session, tenant, user, since, arrival, number: registration.number(), shard, awaited: false };
    heartbeat.directory.restores().ask(ask.clone(), arrival);
    // The connection elsewhere does not end: the lookup is repeated until its time is over.
    let reported = timeout(PATIENCE, heartbeat.session_commands.recv()).await.expect("it gets a command").unwrap();
    assert_eq!(reported, SessionCommand::Restored(RestoreRequest { awaited: true, ..ask }, RestoreResult::Nothing));
    let asked = store.takes.load(Ordering::Relaxed);
    assert!(asked >= 8, "asked {asked} times");
    heartbeat.stop().await;
}

#[tokio::test]
async fn the_memory_store_holds_its_lease_until_the_end() {
    let heartbeat = start("gw-1", MemoryStore::new(ANY_NUMBER, TIMINGS));
    let mut lease = heartbeat.lease.clone();
    held(&heartbeat).await;
    assert!(lease.borrow_and_update().is_held(Instant::now() + Duration::from_secs(1_000_000)));
    heartbeat.stop().await;
    assert_eq!(*lease.borrow_and_update(), LeaseState::Lost(Loss::Released));
}

/// Takes one of the remaining ones. Returns whether there was one.
fn decreases(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// A store that counts calls, and that is slow and unreliable on request.
#[derive(Debug, Clone)]
struct Bent<S, const LEASES_END: bool> {
    inner: S,
    /// Number of renewals, and of writes of rows below.
    heartbeats: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    /// Number of writes that get no answer.
    unanswered: Arc<AtomicUsize>,
    /// Delay of the answers about the lease, in ms.
    late_ms: Arc<AtomicU64>,
    /// Number of answers to renewals that are lost, counting only answers with commands.
    undelivered: Arc<AtomicUsize>,
    /// How far the reported clock is ahead, in ms.
    ahead_ms: Arc<AtomicU64>,
    /// Duration of calls about records, in ms.
    slow_ms: Arc<AtomicU64>,
    /// Number of lookups that get no answer.
    unanswered_takes: Arc<AtomicUsize>,
    /// Number of lookups that were answered, of records that were stored, and of calls to store records since the
    /// newest renewal and at most between two.
    takes: Arc<AtomicUsize>,
    kept: Arc<AtomicUsize>,
    burst: Arc<AtomicUsize>,
    burst_max: Arc<AtomicUsize>,
    /// Whether renewals never end.
    hangs: bool,
}

impl<S: Store, const LEASES_END: bool> Bent<S, LEASES_END> {
    fn new(inner: S) -> Self {
        let (heartbeats, writes, unanswered, late_ms, undelivered) = Default::default();
        let (slow_ms, unanswered_takes, takes, kept, burst, burst_max) = Default::default();
        let (ahead_ms, hangs) = (Arc::default(), false);
        Self {
            inner,
            heartbeats,
            writes,
            unanswered,
            late_ms,
            undelivered,
            ahead_ms,
            slow_ms,
            unanswered_takes,
            takes,
            kept,
            burst,
            burst_max,
            hangs,
        }
    }

    fn reported(&self, at: Option<Timestamp>) -> Option<Timestamp> {
        at.map(|at| Timestamp(at.0 + self.ahead_ms.load(Ordering::Relaxed)))
    }

    async fn late<T>(&self, call: impl Future<Output = T>) -> T {
        let answer = call.await;
        tokio::time::sleep(Duration::from_millis(self.late_ms.load(Ordering::Relaxed))).await;
        answer
    }
}

impl Bent<MemoryStore, false> {
    fn sessions(&self, heartbeat: &HeartbeatHandle) -> usize {
        let gw = own(heartbeat);
        self.inner.sessions(&gw.id, gw.incarnation).len()
    }
}

impl<S: Store, const LEASES_END: bool> Store for Bent<S, LEASES_END> {
    const LEASES_END: bool = LEASES_END;

    fn limits(&self) -> ConnectionLimits {
        self.inner.limits()
    }

    async fn acquire(&self, instance: &Instance, nth_heartbeat: Heartbeat) -> Result<Acquired, StoreError> {
        let mut acquired = self.late(self.inner.acquire(instance, nth_heartbeat)).await?;
        if let Acquired::Granted { at, .. } = &mut acquired {
            *at = self.reported(*at);
        }
        Ok(acquired)
    }
    async fn renew(
        &self,
        of: &Instance,
        token: &Token,
        nth_heartbeat: Heartbeat,
        acknowledged: u64,
    ) -> Result<LeaseRenewal, StoreError> {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
        self.burst.store(0, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut renewed = self.late(self.inner.renew(of, token, nth_heartbeat, acknowledged)).await?;
        renewed.at = self.reported(renewed.at);
        let is_lost = |renewed: &LeaseRenewal| !renewed.listed.commands.is_empty() && decreases(&self.undelivered);
        if is_lost(&renewed) { Err(StoreError::NoAnswer(TIMINGS.call)) } else { Ok(renewed) }
    }
    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        self.inner.release(instance, token).await
    }
    async fn wait_for_wakeup(&self, id: &InstanceId) -> Result<bool, StoreError> {
        self.inner.wait_for_wakeup(id).await
    }
    async fn peers(&self) -> Result<Vec<PeerHeartbeat>, StoreError> {
        self.inner.peers().await
    }
    async fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if decreases(&self.unanswered) {
            return Err(StoreError::NoAnswer(TIMINGS.call));
        }
        self.inner.write_rows(instance, token, changes).await
    }
    async fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(self.slow_ms.load(Ordering::Relaxed))).await;
        self.kept.fetch_add(left.len(), Ordering::Relaxed);
        self.burst_max.fetch_max(self.burst.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.inner.leave_records(instance, token, left).await
    }
    async fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> Result<Vec<LookupResult>, StoreError> {
        tokio::time::sleep(Duration::from_millis(self.slow_ms.load(Ordering::Relaxed))).await;
        if decreases(&self.unanswered_takes) {
            return Err(StoreError::NoAnswer(TIMINGS.call));
        }
        self.takes.fetch_add(1, Ordering::Relaxed);
        self.inner.take_records(instance, token, lookups).await
    }
    async fn delete_rows(&self, instance: &Instance, token: &Token, of: Incarnation) -> Result<(), StoreError> {
        self.inner.delete_rows(instance, token, of).await
    }
    async fn reap(&self, by: &Instance, token: &Token, dead: &Instance, n: u64) -> Result<Option<usize>, StoreError> {
        self.inner.reap(by, token, dead, n).await
    }
    async fn write_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> Result<Option<Duration>, StoreError> {
        self.inner.write_members(instance, token, changes).await
    }
    async fn rewrite_members(&self, of: &Instance, token: &Token, within: Duration) -> Result<(), StoreError> {
        self.inner.rewrite_members(of, token, within).await
    }
}
