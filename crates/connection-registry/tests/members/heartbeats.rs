//! Heartbeats and presence on a real Redis: batches, deaths, restarts, and the number of calls.

use std::time::{Duration, Instant};

use connection_registry::{
    HeartbeatConfig, HeartbeatHandle, HeartbeatTask, LeaseState, PresenceReader, RedisStore, Timings,
};
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};
use wire::{Families, InstanceId, Scope, SessionId, Timestamp, UserId};

use crate::GRACE;
use crate::support::{ANY_NUMBER, PATIENCE, RedisServer, command, nth_heartbeat, row, store_at};

/// A lease that is long enough for a busy machine, and short enough for a test to wait for its end.
const TIMINGS: Timings = Timings {
    heartbeat: Duration::from_millis(500),
    lease: Duration::from_millis(5_000),
    reap: Duration::from_millis(6_000),
    call: Duration::from_millis(500),
    rows: Duration::from_millis(60_000),
    grace: GRACE,
    record: Duration::from_millis(60_000),
};

fn room() -> Scope {
    Families::default().parse_scope("acme/collection:1").unwrap()
}

fn enter(heartbeat: &HeartbeatHandle, name: &str) {
    heartbeat.presence.enter(&room(), &UserId::parse(name).unwrap(), &None, Timestamp(1));
}

fn exit(heartbeat: &HeartbeatHandle, name: &str) {
    heartbeat.presence.exit(&room(), &UserId::parse(name).unwrap());
}

async fn start(id: &str, store: RedisStore) -> HeartbeatHandle {
    let config = HeartbeatConfig { id: InstanceId::parse(id).unwrap(), address: "".into(), timings: TIMINGS };
    let mut heartbeat = HeartbeatTask::start(config, store, || nth_heartbeat(0).load);
    let held = heartbeat.lease.wait_for(|state| matches!(state, LeaseState::Held { .. }));
    timeout(PATIENCE, held).await.expect("it gets its lease").expect("it lives");
    heartbeat
}

async fn count(store: &RedisStore) -> usize {
    store.list_members(&[room()], 0).await.map_or(usize::MAX, |snapshot| snapshot.scopes[0].count)
}

/// Waits until the scope has this number of members.
async fn until(store: &RedisStore, members: usize) {
    let start = Instant::now();
    while count(store).await != members {
        assert!(start.elapsed() < PATIENCE, "{} members, not {members}", count(store).await);
        sleep(Duration::from_millis(5)).await;
    }
}

async fn until_fewer(store: &RedisStore, members: usize) {
    let start = Instant::now();
    while count(store).await >= members {
        assert!(start.elapsed() < PATIENCE, "nobody has left");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Number of calls of a command.
async fn calls(redis: &mut MultiplexedConnection, name: &str) -> u64 {
    let stats: String = command(redis, &["INFO", "commandstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

/// New members cost few calls, and members that stay cost none.
#[tokio::test]
async fn a_crowd_is_a_few_calls_and_costs_nothing_when_it_stays() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER)).await;
    let store = server.store(TIMINGS, ANY_NUMBER);
    let (start, before) = (Instant::now(), calls(&mut redis, "fcall").await);
    (0..1_000).for_each(|n| enter(&heartbeat, &format!("u{n}")));
    until(&store, 1_000).await;
    let written = calls(&mut redis, "fcall").await - before;
    // Eight batches, or nine if the first one started before all members had entered; and the heartbeats meanwhile.
    let heartbeats_since =
        |start: Instant| start.elapsed().as_millis() as u64 / TIMINGS.heartbeat.as_millis() as u64 + 2;
    let heartbeats = heartbeats_since(start);
    assert!(written <= 9 + heartbeats, "{written} calls in {heartbeats} heartbeats");

    let (start, before) = (Instant::now(), calls(&mut redis, "fcall").await);
    let writes = calls(&mut redis, "hset").await;
    sleep(4 * TIMINGS.heartbeat).await;
    let (idle, writes) = (calls(&mut redis, "fcall").await - before, calls(&mut redis, "hset").await - writes);
    let heartbeats = heartbeats_since(start);
    assert!(idle <= heartbeats, "{idle} calls in {heartbeats} heartbeats");
    assert!(writes <= heartbeats, "{writes} writes in {heartbeats} heartbeats: one shows the heartbeat, none a member");
    heartbeat.stop().await;
}

/// A member whose page is loaded again does not leave, and one whose page is closed leaves a moment after the grace.
#[tokio::test]
async fn a_member_who_is_back_in_time_has_not_left() {
    let server = RedisServer::start();
    let (one, two) = (
        start("gw-1", server.store(TIMINGS, ANY_NUMBER)).await,
        start("gw-2", server.store(TIMINGS, ANY_NUMBER)).await,
    );
    let store = server.store(TIMINGS, ANY_NUMBER);
    enter(&one, "alice");
    enter(&one, "bob");
    until(&store, 2).await;
    exit(&one, "alice");
    exit(&one, "bob");
    sleep(Duration::from_millis(100)).await;
    enter(&two, "alice");
    until(&store, 1).await;
    sleep(2 * TIMINGS.grace).await;
    let list = store.list_members(&[room()], 9).await.unwrap().scopes.remove(0);
    assert_eq!((list.count, list.members[0].user.as_str(), list.members[0].instances.len()), (1, "alice", 1));
    // The members of an instance that releases its lease have the grace to return.
    two.stop().await;
    assert_eq!(count(&store).await, 1);
    until(&store, 0).await;
    one.stop().await;
}

/// Redis restarts empty, or without the last second: the instances write their members again.
#[tokio::test]
async fn a_redis_that_lost_everything_is_written_again() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER)).await;
    let store = server.store(TIMINGS, ANY_NUMBER);
    let _registration = heartbeat.directory.connect(SessionId::from_random(1), row("alice"));
    enter(&heartbeat, "alice");
    enter(&heartbeat, "bob");
    until(&store, 2).await;
    let () = command(&mut redis, &["FLUSHALL"]).await;
    exit(&heartbeat, "bob");
    until(&store, 1).await;

    // A departure that Redis has lost is written again under the next lease.
    exit(&heartbeat, "alice");
    until(&store, 0).await;
    let peers: Vec<String> = command(&mut redis, &["HKEYS", "tidegate:{registry}:peers"]).await;
    assert_eq!(peers, ["gw-1"]);
    let incarnation = heartbeat.peers.borrow().own.incarnation;
    let stale = format!("1 gw-1:{incarnation} ");
    let () = command(&mut redis, &["HSET", "tidegate:{registry}:members:acme/collection:1", "carol", &stale]).await;
    let entry = "acme/collection:1 carol";
    let () = command(&mut redis, &["SADD", &format!("tidegate:{{registry}}:present:gw-1:{incarnation}"), entry]).await;
    assert_eq!(count(&store).await, 1);
    let () = command(&mut redis, &["DEL", "tidegate:{registry}:lease:gw-1"]).await;
    until(&store, 0).await;
    heartbeat.stop().await;
}

/// A heartbeat task stops without releasing its lease. Its members leave when a peer removes the instance.
#[tokio::test]
async fn the_members_of_the_dead_leave() {
    let server = RedisServer::start();
    let mut redis = server.connection().await;
    let doomed = start("gw-2", store_at(&server.url(), TIMINGS, ANY_NUMBER)).await;
    let heartbeat = start("gw-1", server.store(TIMINGS, ANY_NUMBER)).await;
    let store = server.store(TIMINGS, ANY_NUMBER);
    enter(&heartbeat, "alice");
    (0..2_600).for_each(|n| enter(&doomed, &format!("u{n}")));
    until(&store, 2_601).await;
    // A killed process leaves an old heartbeat and a lease that expires.
    let dead: String = command(&mut redis, &["HGET", "tidegate:{registry}:peers", "gw-2"]).await;
    let incarnation = doomed.peers.borrow().own.incarnation;
    let present = format!("tidegate:{{registry}}:present:gw-2:{incarnation}");
    let held: Vec<String> = command(&mut redis, &["SMEMBERS", &present]).await;
    doomed.stop().await;
    let () = command(&mut redis, &["HSET", "tidegate:{registry}:peers", "gw-2", &dead]).await;
    let stale = format!("tidegate:{{registry}}:stale:gw-2:{incarnation}");
    let () = command(&mut redis, &["RENAME", &stale, &present]).await;
    let () = command(&mut redis, &["DEL", "tidegate:{registry}:leaving"]).await;
    assert_eq!((held.len(), count(&store).await), (2_600, 2_601));
    until_fewer(&store, 2_601).await;
    // The changes do not wait for heartbeats: ten of them would have passed.
    let mut heartbeats = Vec::new();
    let start = Instant::now();
    while count(&store).await != 1 {
        assert!(start.elapsed() < PATIENCE, "{} members", count(&store).await);
        let heartbeat: String = command(&mut redis, &["HGET", "tidegate:{registry}:peers", "gw-1"]).await;
        if heartbeats.last() != Some(&heartbeat) {
            heartbeats.push(heartbeat);
        }
    }
    assert!(heartbeats.len() < 7, "{heartbeats:?}");
    heartbeat.stop().await;
}
