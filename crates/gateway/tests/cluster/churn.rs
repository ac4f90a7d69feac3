//! Users come, speak and go for good, thousands of them: what was kept for them goes too, in the process and in Redis.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use test_support::RedisServer;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::process::{Process, metrics};

/// Nobody comes twice, and each has two scopes of its own.
const WAVES: usize = 8;
const WAVE: usize = 2_500;
const WARM_UP: usize = 500;
/// At a time.
const ARRIVING: usize = 64;

/// A wave's clients end at once, and a busy machine is long about it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys that a fleet has one of each, for good.
const LASTING: [&str; 2] = ["fence", "peers"];

/// What the process has in memory of its own; not its code.
fn anonymous_kib(process: &Process) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.child.pid())).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("Linux 4.14 or later");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn visit(process: &Process, fleet: &Fleet, user: &str) -> Client {
    let token = fleet.token("acme", user, &["collection:*", "user:*"]);
    let stream = TcpStream::connect(process.listen).await.unwrap();
    // Thousands of ports in TIME_WAIT would be missed by other tests.
    stream.set_zero_linger().unwrap();
    let mut client = Client::upgrade(stream, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe(&format!("user:{user}:inbox"), None).await;
    client.subscribe(&format!("collection:{user}:*"), None).await;
    assert_eq!(client.publish(&format!("collection:{user}:ops"), 1).await["type"], "ack");
    client
}

/// So many users at once, who then go. What the process had in memory at its fullest.
async fn wave(process: &Process, fleet: &Fleet, name: usize, users: usize) -> u64 {
    let visits = stream::iter(0..users).map(async |n| visit(process, fleet, &format!("u{name}-{n}")).await);
    let clients: Vec<Client> = visits.buffer_unordered(ARRIVING).collect().await;
    let full = anonymous_kib(process);
    drop(clients);
    until("they have gone", || process.number("tidegate_scopes ") == Some(0.0)).await;
    full
}

/// Every metric with its labels.
fn series(process: &Process) -> BTreeSet<String> {
    let text = metrics(process.admin).expect("it answers operators");
    let lines = text.lines().filter(|line| line.starts_with("tidegate_"));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[tokio::test]
async fn after_twenty_thousand_users_the_process_and_redis_are_as_before() {
    let descriptors = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors }).unwrap();
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(0, None, "");
    let settings =
        ["instance=churned", "shards=2", "limits.connects_per_second=0", "limits.connections_per_address=100000"];
    let process = Process::start(&settings, Some(&redis.url()));
    until("it is connected", || process.is("connected")).await;
    wave(&process, &fleet, WAVES, WARM_UP).await;
    let (before, series_before) = (anonymous_kib(&process), series(&process));
    let mut full = wave(&process, &fleet, 0, WAVE).await;
    let first = anonymous_kib(&process);
    for name in 1..WAVES {
        full = full.max(wave(&process, &fleet, name, WAVE).await);
    }

    // The allocator keeps some of what a first wave needed; the others add nothing to that.
    let bound = (before + (full - before) * 2 / 3).min(first + full.saturating_sub(first) / 3);
    let back = || anonymous_kib(&process) <= bound;
    until(&format!("{before}, {first} KiB after a wave, that had grown to {full} are {bound} again"), back).await;
    let new: Vec<_> = series(&process).difference(&series_before).cloned().collect();
    assert!(new.is_empty() && series_before.len() > 100, "no label is a user's: {new:?}");
    for gauge in ["tidegate_connections{", "tidegate_subscriptions{", "tidegate_backlog_bytes{"] {
        let text = metrics(process.admin).unwrap();
        assert!(text.lines().filter(|line| line.starts_with(gauge)).all(|line| line.ends_with(" 0")), "{text}");
    }

    let lasting = || {
        let keys: Vec<String> = redis.command(&["KEYS", "*"]);
        let lasting = keys.iter().filter(|key| redis.command::<i64>(&["PTTL", key]) < 0);
        lasting.map(|key| key.rsplit(':').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(lasting(), BTreeSet::from(LASTING.map(str::to_owned)), "all else goes by itself");
    until("nobody is listed", || redis.command::<Vec<String>>(&["KEYS", "*:rows:*"]).is_empty()).await;
    // The probe's alone.
    until("nothing is heard", || redis.command::<Vec<String>>(&["PUBSUB", "CHANNELS"]).len() == 1).await;
}
