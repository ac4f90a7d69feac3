//! Who is in a scope: over tabs, instances, deaths and interruptions.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::RedisServer;
use tokio::time::sleep;

use crate::cli::ask;
use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::metrics::until;
use crate::process::Process;
use crate::proxy::Proxy;

/// Long enough for a client to come back on a busy machine, short enough to wait for.
const PRESENCE: &str = "[[families]]\nname = \"collection\"\npresence = true\n[presence]\ngrace_ms = 5000\n";
const GRACE: Duration = Duration::from_millis(5_000);
/// The same with lives that are short enough to wait for their ends, and so long that a busy machine sees them in time: a
/// tenth of the lease before. Nobody comes back here.
const SHORT_LIVED: &str = "[[families]]\nname = \"collection\"\npresence = true\n[presence]\ngrace_ms = 1500\n\
                           [registry]\nheartbeat_interval_ms = 1000\nlease_ms = 10000\nreap_ms = 11000\n";
const SHORT_GRACE: Duration = Duration::from_millis(1_500);
const HEARTBEAT_MS: u64 = 1_000;

/// A client that is a member of collection 42.
async fn member(fleet: &Fleet, index: usize, user: &str) -> Client {
    let mut client = fleet.client(index, user).await;
    client.subscribe("collection:42:*", None).await;
    client
}

/// A client that has asked who is there, and waited until these are: `joined` may follow the list.
async fn watcher(fleet: &Fleet, index: usize, user: &str, members: &[&str]) -> Watcher {
    let mut watcher = Watcher { client: member(fleet, index, user).await, members: Vec::new(), events: Vec::new() };
    watcher.ask().await;
    watcher.until(members).await;
    watcher.events.clear();
    watcher
}

/// Keeps a list as docs/protocol.md says.
struct Watcher {
    client: Client,
    members: Vec<String>,
    /// "+bob" and "-bob", and "=" for a list, with "=+bob" and "=-bob" for what it changes.
    events: Vec<String>,
}

impl Watcher {
    async fn ask(&mut self) {
        self.client.send_text(r#"{"type":"presence","channel":"collection:42","correlation_id":"w"}"#).await;
        loop {
            let frame = self.next().await;
            if frame["correlation_id"] == "w" {
                return;
            }
        }
    }

    async fn next(&mut self) -> Value {
        let frame = self.client.next().await;
        self.take(&frame);
        frame
    }

    fn take(&mut self, frame: &Value) {
        let payload = &frame["payload"];
        let user = || payload["user"].as_str().expect("of a user").to_owned();
        match frame["type"].as_str() {
            Some("presence") => {
                let members = payload["members"].as_array().expect("a list");
                let members: Vec<_> = members.iter().map(|m| m["user"].as_str().expect("a user").to_owned()).collect();
                self.events.push("=".into());
                let new = members.iter().filter(|user| !self.members.contains(user));
                self.events.extend(new.map(|user| format!("=+{user}")));
                let gone = self.members.iter().filter(|user| !members.contains(user));
                self.events.extend(gone.map(|user| format!("=-{user}")));
                self.members = members;
            }
            Some("joined") => {
                self.members.retain(|other| *other != user());
                self.members.push(user());
                self.events.push(format!("+{}", user()));
            }
            Some("left") => {
                self.members.retain(|other| *other != user());
                self.events.push(format!("-{}", user()));
            }
            Some("degraded" | "gap" | "subscribed") => return,
            _ => panic!("not about presence: {frame}"),
        }
        if payload["stale"] != true {
            assert_eq!(payload["count"], self.members.len(), "{frame}, but {:?}", self.members);
        }
        self.members.sort();
    }

    /// Reads until these are the members, by what this client was told.
    async fn until(&mut self, members: &[&str]) {
        while self.members != members {
            self.next().await;
        }
    }

    /// Who came and went by all that was told up to now: a question of its own is answered behind it. An instance that
    /// waited for Redis too long gives a whole list, which may say the same.
    async fn events(&mut self) -> Vec<String> {
        self.ask().await;
        let events = std::mem::take(&mut self.events).into_iter().filter(|events| events != "=");
        events.map(|events| events.trim_start_matches('=').to_owned()).collect()
    }
}

#[tokio::test]
async fn a_user_with_two_tabs_on_two_instances_joins_once_and_leaves_once() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), PRESENCE);
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let (mut phone, laptop) = (member(&fleet, 0, "bob").await, member(&fleet, 1, "bob").await);
    alice.until(&["alice", "bob"]).await;
    until(&fleet, "tidegate_presence_members", 3).await; // alice, and bob on each of two

    // What an operator sees.
    let families = "families=[{ name = 'collection', presence = true }]";
    let asks = |channel| ask("presence", &redis, &["--set", families, channel]);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (lines, code) = asks("collection:42");
        let [alices, bobs, count] = &lines[..] else { panic!("two members and their number: {lines:?}") };
        assert_eq!((count.as_str(), code), ("2 in all", 0));
        // The second instance may not have written it yet.
        if alices.ends_with(" alice gw-0") && bobs.ends_with(" bob gw-0,gw-1") {
            break;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
    }
    assert_eq!(["collection:43", "system", "none:1"].map(|channel| asks(channel).1), [1, 64, 65]);

    drop(laptop);
    // The last subscription of the scope ends it, not the first.
    phone.subscribe("collection:42", None).await;
    phone.send_text(r#"{"type":"unsubscribe","channel":"collection:42:*"}"#).await;
    phone.expect("unsubscribed").await;
    sleep(GRACE * 3 / 2).await;
    assert_eq!(alice.events().await, ["+bob"]);
    phone.send_text(r#"{"type":"unsubscribe","channel":"collection:42"}"#).await;
    phone.expect("unsubscribed").await;
    let start = Instant::now();
    alice.until(&["alice"]).await;
    assert!(start.elapsed() > GRACE / 2, "there is a grace");
    assert_eq!(alice.events().await, ["-bob"]);

    // What bob does not hold he is not told of.
    phone.send_text(r#"{"type":"presence","channel":"collection:42"}"#).await;
    assert_eq!(phone.expect("error").await["payload"]["code"], "not_subscribed");
    phone.send_text(r#"{"type":"presence","channel":"system:ready"}"#).await;
    assert_eq!(phone.expect("error").await["payload"]["code"], "invalid_field");
}

/// A page that is loaded again, here or elsewhere.
#[tokio::test]
async fn who_comes_back_within_the_grace_has_not_left() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), PRESENCE);
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let bob = member(&fleet, 1, "bob").await;
    alice.until(&["alice", "bob"]).await;
    drop(bob);
    let _bob = member(&fleet, 0, "bob").await;
    sleep(GRACE * 3 / 2).await;
    assert_eq!(alice.events().await, ["+bob"]);
    assert_eq!(alice.members, ["alice", "bob"]);
}

/// What the token says of its holder is passed on as it is.
#[tokio::test]
async fn members_are_told_with_what_their_tokens_say() {
    let fleet = Fleet::start(1, None, PRESENCE);
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let info = json!({"name": "Bob B", "face": [1, 2]});
    let token = fleet.token_saying("acme", "bob", &["collection:*"], Some(&info));
    let mut bob = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token)).await;
    bob.expect("welcome").await;
    bob.subscribe("collection:42:*", None).await;
    let joined = alice.next().await;
    assert_eq!((&joined["payload"]["user"], &joined["payload"]["info"]), (&json!("bob"), &info));
    assert_eq!(joined["channel"], "collection:42");
    bob.send_text(r#"{"type":"presence","channel":"collection:42:ops"}"#).await;
    let list = bob.expect("presence").await;
    let of = |user: &str| list["payload"]["members"].as_array().unwrap().iter().find(|m| m["user"] == user).unwrap();
    assert_eq!((&of("bob")["info"], of("bob")["since"].clone()), (&info, joined["payload"]["since"].clone()));
    assert_eq!(of("alice").get("info"), None);
}

/// An instance that is drained moves its members without a word of theirs.
#[tokio::test]
async fn a_drained_instance_moves_its_members_without_noise() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), PRESENCE);
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let mut moved = Vec::new();
    for n in 0..5 {
        moved.push(member(&fleet, 1, &format!("u{n}")).await);
    }
    let everybody = ["alice", "u0", "u1", "u2", "u3", "u4"];
    alice.until(&everybody).await;
    alice.events.clear();
    let leaving = fleet.gateways[1].take().expect("it runs");
    let drain = tokio::spawn(leaving.drain());
    let mut back = Vec::new();
    for (n, client) in moved.iter_mut().enumerate() {
        client.expect("reconnect").await;
        back.push(member(&fleet, 0, &format!("u{n}")).await);
    }
    drop(moved);
    tokio::time::timeout(DEADLINE, drain).await.expect("it ends").expect("it does not panic");
    sleep(GRACE * 3 / 2).await;
    assert_eq!(alice.events().await, [""; 0]);
    assert_eq!(alice.members, everybody);
}

/// Redis comes back empty: who is connected is written anew, and watchers are given new lists.
#[tokio::test]
async fn after_a_restart_of_redis_without_its_data_views_converge() {
    let mut redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), SHORT_LIVED);
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let (bob, _carol) = (member(&fleet, 1, "bob").await, member(&fleet, 1, "carol").await);
    alice.until(&["alice", "bob", "carol"]).await;
    redis.crash();
    // While it is away, whoever asks is told what this instance knows, and that it may be wrong.
    alice.client.send_text(r#"{"type":"presence","channel":"collection:42","correlation_id":"stale"}"#).await;
    loop {
        let frame = alice.next().await;
        if frame["correlation_id"] == "stale" {
            assert_eq!((&frame["payload"]["stale"], &frame["payload"]["count"]), (&json!(true), &json!(1)), "{frame}");
            break;
        }
    }
    drop(bob); // and this nobody can be told
    redis.restart();
    alice.events.clear();
    alice.until(&["alice", "carol"]).await;
    let events = alice.events.clone();
    assert!(events.contains(&"=".to_owned()), "a list is given anew: {events:?}");
    assert!(!events.contains(&"-carol".to_owned()), "{events:?}");
    sleep(SHORT_GRACE).await;
    alice.ask().await;
    assert_eq!(alice.members, ["alice", "carol"]);
}

/// Nothing is asked of Redis for those who stay, whether or not anybody watches.
#[tokio::test]
async fn idle_members_cost_a_waiting_call_and_no_more() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), SHORT_LIVED);
    let _alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let mut members = Vec::new();
    for n in 0..50 {
        members.push(member(&fleet, 0, &format!("u{n}")).await);
    }
    until(&fleet, "tidegate_presence_members", 51).await;
    let calls = |name: &str| -> u64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis.connect()).expect("it answers");
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().expect("a number"))
    };
    sleep(2 * SHORT_GRACE).await; // what the joining has begun ends
    const NAMES: [&str; 5] = ["fcall", "fcall_ro", "xread", "sadd", "zadd"];
    let (start, before) = (Instant::now(), NAMES.map(calls));
    sleep(Duration::from_secs(5)).await;
    let after = NAMES.map(calls);
    // A heartbeat is a renewal and a look at the peers; the broker asks once a second what is new.
    let heartbeats = start.elapsed().as_millis() as u64 / HEARTBEAT_MS + 2;
    let cost: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // Revocations are asked for every 300 ms.
    let asked = start.elapsed().as_millis() as u64 / 300 + 2;
    assert!(cost[0] <= 2 * heartbeats && cost[1] <= 2 * heartbeats + asked, "{cost:?} in {heartbeats} heartbeats");
    assert!(cost[2] <= heartbeats / 5 + 2, "{cost:?}: one that waits five seconds");
    assert_eq!(cost[3..], [0, 0]);
}

/// What the process of a fleet is told.
fn settings(name: &str) -> [String; 6] {
    let families = "families=[{ name = 'collection', presence = true }]".to_owned();
    let more = ["shards=2", "presence.grace_ms=1500", "registry.heartbeat_interval_ms=2000", "registry.lease_ms=6000"];
    let [shards, grace, heartbeat, lease] = more.map(str::to_owned);
    [format!("instance={name}"), families, shards, grace, heartbeat, lease]
}

fn process(name: &str, redis: &RedisServer) -> Process {
    let settings = settings(name);
    Process::start(&settings.each_ref().map(String::as_str), Some(&redis.url()))
}

async fn until_connected(process: &Process) {
    let deadline = Instant::now() + DEADLINE;
    while !process.is("connected") {
        assert!(Instant::now() < deadline, "it does not connect");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A member on a gateway of its own process.
async fn member_at(fleet: &Fleet, process: &Process, user: &str) -> Client {
    let token = fleet.token("acme", user, &["collection:*"]);
    let mut client = Client::connect(process.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("collection:42:*", None).await;
    client
}

/// The default times: heartbeats of two seconds, reaped after eight.
#[tokio::test]
async fn the_members_of_a_killed_instance_leave_within_ten_seconds_once_and_nobody_else() {
    let redis = RedisServer::start(&[]);
    let defaults = "[[families]]\nname = \"collection\"\npresence = true\n[presence]\ngrace_ms = 1500\n\
                    [registry]\nheartbeat_interval_ms = 2000\nlease_ms = 6000\nreap_ms = 8000\n";
    let fleet = Fleet::start(2, Some(&redis.url()), defaults);
    let mut killed = process("killed", &redis);
    until_connected(&killed).await;
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let mut dave = watcher(&fleet, 1, "dave", &["alice", "dave"]).await;
    alice.until(&["alice", "dave"]).await;
    let _doomed = (member_at(&fleet, &killed, "bob").await, member_at(&fleet, &killed, "carol").await);
    // bob is connected elsewhere too: he stays.
    let _elsewhere = member(&fleet, 1, "bob").await;
    let everybody = ["alice", "bob", "carol", "dave"];
    alice.until(&everybody).await;
    dave.until(&everybody).await;
    (alice.events, dave.events) = (Vec::new(), Vec::new());

    killed.child.kill().expect("it runs");
    let dead = Instant::now();
    alice.until(&["alice", "bob", "dave"]).await;
    dave.until(&["alice", "bob", "dave"]).await;
    let took = dead.elapsed();
    assert!(took > Duration::from_secs(4), "a lease outlasts {took:?}: the process said goodbye");
    // A heartbeat before the kill, eight seconds, and a heartbeat at most; twice that where the peers themselves are held up.
    assert!(took < Duration::from_secs(20), "{took:?}");
    sleep(2 * SHORT_GRACE).await;
    assert_eq!(alice.events().await, ["-carol"]);
    assert_eq!(dave.events().await, ["-carol"]);
}

/// Cut off from Redis, yet not from its clients: others see its members leave, and both sides agree again afterwards.
#[tokio::test]
async fn an_instance_that_was_cut_off_agrees_with_the_others_again() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(1, Some(&redis.url()), SHORT_LIVED);
    let proxy = Proxy::start(redis.port()).await;
    fleet.add(Some(&proxy.url()));
    let mut alice = watcher(&fleet, 0, "alice", &["alice"]).await;
    let mut bob = watcher(&fleet, 1, "bob", &["alice", "bob"]).await;
    alice.until(&["alice", "bob"]).await;

    proxy.cut();
    alice.until(&["alice"]).await;
    let _carol = member(&fleet, 0, "carol").await;
    alice.until(&["alice", "carol"]).await;
    // On its side of the cut, an answer that does not claim to be the truth.
    bob.client.send_text(r#"{"type":"presence","channel":"collection:42","correlation_id":"cut"}"#).await;
    loop {
        let frame = bob.next().await;
        if frame["correlation_id"] == "cut" {
            let user = &frame["payload"]["members"][0]["user"];
            assert_eq!((&frame["payload"]["stale"], user), (&json!(true), &json!("bob")), "{frame}");
            break;
        }
    }
    proxy.mend();
    alice.until(&["alice", "bob", "carol"]).await;
    bob.until(&["alice", "bob", "carol"]).await;
    sleep(2 * SHORT_GRACE).await;
    for watcher in [&mut alice, &mut bob] {
        watcher.ask().await;
        assert_eq!(watcher.members, ["alice", "bob", "carol"]);
    }
}
