//! The members of a scope on a real Redis: what counts as joining and leaving, which changes are published, and what
//! the death of an instance leaves.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use keyspace::{Function, Keyspace, Library};
use redis::{Connection, cmd};
use test_support::RedisServer;
use wire::{Families, InstanceId, Scope};

const INCARNATION: &str = "650000000000002a";
const GRACE_MS: u64 = 60_000;

/// A Redis with the library, and the calls of a test.
struct Fleet {
    /// Connected as the gateway user of `docs/redis.md`, with only the rights that it has there.
    redis: Connection,
    admin: Connection,
    keys: Keyspace,
    /// Kept alive until the test ends.
    _server: RedisServer,
}

fn id(name: &str) -> InstanceId {
    InstanceId::parse(name).expect("tests name instances")
}

fn scope(text: &str) -> Scope {
    Families::default().parse_scope(text).expect("tests name scopes")
}

fn room() -> Scope {
    scope("acme/collection:42")
}

impl Fleet {
    fn start() -> Self {
        let server = RedisServer::start(&[]);
        let mut admin = server.connect();
        let doc = include_str!("../../../docs/redis.md");
        let line = doc.lines().find(|line| line.starts_with("ACL SETUSER gateway ")).expect("the line is documented");
        cmd("ACL").arg(line.split(' ').skip(1).collect::<Vec<_>>()).exec(&mut admin).unwrap();
        let gateway = redis::Client::open(format!("redis://gateway:PASSWORD@127.0.0.1:{}/", server.port())).unwrap();
        let mut redis = gateway.get_connection().unwrap();
        let families = Families::default();
        let library = Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100)));
        cmd("FUNCTION").arg("LOAD").arg(library.source()).exec(&mut redis).expect("the library loads");
        Self { redis, admin, keys: Keyspace::default(), _server: server }
    }

    fn call(&mut self, function: Function, keys: &[String], args: &[&str]) -> redis::RedisResult<Vec<String>> {
        let mut call = cmd(function.command());
        call.arg(function.name).arg(keys.len()).arg(keys).arg(args).query(&mut self.redis)
    }

    fn keys_of(&self, name: &str, incarnation: &str) -> [String; 5] {
        let (keys, id) = (&self.keys, id(name));
        [
            keys.lease(&id),
            keys.peers(),
            keys.rows(&id, incarnation),
            keys.users(&id, incarnation),
            keys.commands(&id, incarnation),
        ]
    }

    /// Acquires a lease for one incarnation of an instance.
    fn begin(&mut self, name: &str, incarnation: &str) -> String {
        let keys = [self.keys.lease(&id(name)), self.keys.fence(), self.keys.peers()];
        let record = format!(r#"{{"incarnation":"{incarnation}","heartbeat":1,"address":""}}"#);
        let args = [name, incarnation, "60000", &record, "3600000", &GRACE_MS.to_string()];
        self.call(Function::REGISTRY_ACQUIRE, &keys, &args).unwrap().remove(1)
    }

    /// Writes changes of one scope: "+ user" and "- user".
    fn write(&mut self, name: &str, token: &str, grace_ms: u64, scope: &Scope, changes: &[&str]) -> Vec<String> {
        let keys = [self.keys.lease(&id(name)), self.keys.peers()];
        let grace_ms = grace_ms.to_string();
        let mut args = vec![token, name, &grace_ms];
        for change in changes {
            let (what, user) = change.split_once(' ').unwrap();
            args.extend([what, scope.as_str(), user, if what == "+" { r#"{"a": 1}"# } else { "" }]);
        }
        self.call(Function::PRESENCE_WRITE, &keys, &args).unwrap()
    }

    /// Returns the number of members, and the members that are shown.
    fn list(&mut self, scope: &Scope, most: usize) -> (usize, Vec<String>) {
        let keys = [self.keys.peers()];
        let answer = self.call(Function::PRESENCE_LIST, &keys, &[&most.to_string(), scope.as_str()]).unwrap();
        let mut users: Vec<String> = answer[3..].chunks(4).map(|member| member[0].clone()).collect();
        assert_eq!(answer[2], users.len().to_string());
        users.sort_unstable();
        (answer[1].parse().unwrap(), users)
    }

    fn users(&mut self, scope: &Scope) -> Vec<String> {
        self.list(scope, 100).1
    }

    /// The published changes, as "+ user count" and "- user count".
    fn events(&mut self) -> Vec<String> {
        let entries: Vec<(String, Vec<String>)> =
            cmd("XRANGE").arg(self.keys.presence()).arg("-").arg("+").query(&mut self.redis).unwrap();
        let (mut events, mut last) = (Vec::new(), String::new());
        for (entry, fields) in entries {
            assert_eq!(fields[..2], ["p".to_owned(), last], "each entry names the one before it");
            for pair in fields[2..].chunks(2) {
                let words: Vec<&str> = pair[1].splitn(5, ' ').collect();
                events.push(format!("{} {} {}", pair[0], words[1], words[3]));
            }
            last = entry;
        }
        events
    }

    fn reap(&mut self, by: &str, token: &str, dead: &str) -> Vec<String> {
        cmd("DEL").arg(self.keys.lease(&id(dead))).exec(&mut self.admin).unwrap(); // as if it had expired
        let [lease, _, rows, users, commands] = self.keys_of(dead, INCARNATION);
        let keys = [self.keys.lease(&id(by)), self.keys.peers(), lease, rows, users, commands];
        self.call(Function::REGISTRY_REAP, &keys, &[token, dead, INCARNATION, "1"]).unwrap()
    }

    fn renew(&mut self, name: &str, token: &str) {
        let record = format!(r#"{{"incarnation":"{INCARNATION}","heartbeat":2,"address":""}}"#);
        let args = [token, name, "60000", "60000", &record, "1"];
        let keys = self.keys_of(name, INCARNATION);
        assert_eq!(self.call(Function::REGISTRY_RENEW, &keys, &args).unwrap()[0], "OK");
    }

    /// Every key of presence that holds members.
    fn left_behind(&mut self) -> Vec<String> {
        let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut self.admin).unwrap();
        let of_presence = |key: &String| {
            ["members", "present:", "stale:", "leaving"]
                .iter()
                .any(|kind| key.contains(&format!("{{registry}}:{kind}")))
        };
        keys.into_iter().filter(of_presence).collect()
    }
}

#[test]
fn a_user_of_two_instances_joins_once_and_leaves_once() {
    let mut fleet = Fleet::start();
    let (one, two) = (fleet.begin("gw-1", INCARNATION), fleet.begin("gw-2", INCARNATION));
    fleet.write("gw-1", &one, 0, &room(), &["+ alice", "+ bob"]);
    fleet.write("gw-2", &two, 0, &room(), &["+ alice"]);
    fleet.write("gw-2", &two, 0, &room(), &["+ alice"]); // repeated after a lost answer
    assert_eq!(fleet.users(&room()), ["alice", "bob"]);
    fleet.write("gw-1", &one, 0, &room(), &["- alice"]);
    fleet.write("gw-1", &one, 0, &room(), &["- alice"]);
    assert_eq!(fleet.users(&room()), ["alice", "bob"]);
    fleet.write("gw-2", &two, 0, &room(), &["- alice"]);
    assert_eq!(fleet.users(&room()), ["bob"]);
    assert_eq!(fleet.events(), ["+ alice 1", "+ bob 2", "- alice 1"]);
    fleet.write("gw-1", &one, 0, &room(), &["- bob"]);
    assert_eq!(fleet.left_behind(), Vec::<String>::new());
}

/// A key of another program is removed before a member is written: the change is not lost halfway.
#[test]
fn members_join_and_leave_where_another_program_has_written_the_list_of_those_that_leave() {
    let mut fleet = Fleet::start();
    let one = fleet.begin("gw-1", INCARNATION);
    let leaving = fleet.keys.peers().replace("peers", "leaving");
    for change in ["+ alice", "- alice", "+ alice"] {
        cmd("UNLINK").arg(&leaving).exec(&mut fleet.admin).unwrap();
        cmd("SET").arg(&leaving).arg("x").exec(&mut fleet.admin).unwrap();
        fleet.write("gw-1", &one, 0, &room(), &[change]);
    }
    assert_eq!(fleet.events(), ["+ alice 1", "- alice 0", "+ alice 1"]);
}

#[test]
fn a_user_that_returns_within_the_grace_has_not_left() {
    let mut fleet = Fleet::start();
    let (one, two) = (fleet.begin("gw-1", INCARNATION), fleet.begin("gw-2", INCARNATION));
    fleet.write("gw-1", &one, GRACE_MS, &room(), &["+ alice", "+ bob"]);
    let answer = fleet.write("gw-1", &one, GRACE_MS, &room(), &["- alice"]);
    let due_ms: u64 = answer[1].parse().unwrap();
    assert!(due_ms > GRACE_MS / 2 && due_ms <= GRACE_MS, "{answer:?}");
    assert_eq!(fleet.users(&room()), ["alice", "bob"]);
    assert_eq!(fleet.write("gw-2", &two, GRACE_MS, &room(), &["+ alice"]), ["OK", ""]);
    assert_eq!(fleet.events(), ["+ alice 1", "+ bob 2"]);

    // A member that does not return leaves with a later call, once.
    fleet.write("gw-2", &two, 20, &room(), &["- alice"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while fleet.users(&room()).len() > 1 {
        assert!(Instant::now() < deadline, "alice is due");
        fleet.renew("gw-1", &one);
        sleep(Duration::from_millis(5));
    }
    fleet.write("gw-2", &two, 20, &room(), &[]);
    assert_eq!(fleet.events(), ["+ alice 1", "+ bob 2", "- alice 1"]);
}

#[test]
fn reaping_removes_the_members_of_the_dead_instance_and_no_others() {
    let mut fleet = Fleet::start();
    let [one, two, three] = ["gw-1", "gw-2", "gw-3"].map(|name| fleet.begin(name, INCARNATION));
    fleet.write("gw-1", &one, GRACE_MS, &room(), &["+ alice", "+ bob"]);
    fleet.write("gw-2", &two, GRACE_MS, &room(), &["+ alice"]);
    let other = scope("acme/collection:7");
    fleet.write("gw-1", &one, GRACE_MS, &other, &["+ carol"]);
    assert_eq!(fleet.reap("gw-2", &two, "gw-1"), ["OK", "0"]);
    assert_eq!(fleet.reap("gw-3", &three, "gw-1"), ["OK", ""], "the second finds nothing to do");
    assert_eq!((fleet.users(&room()), fleet.users(&other)), (vec!["alice".to_owned()], vec![]));
    assert_eq!(fleet.events()[3..].iter().collect::<std::collections::HashSet<_>>().len(), 2, "{:?}", fleet.events());
    assert!(fleet.events()[3..].iter().all(|events| events.starts_with("- bob") || events.starts_with("- carol")));
}

/// More members than one step removes: the rest is removed by the following heartbeats, and each is reported once.
#[test]
fn many_members_of_a_dead_instance_leave_in_several_calls() {
    let mut fleet = Fleet::start();
    let (one, two) = (fleet.begin("gw-1", INCARNATION), fleet.begin("gw-2", INCARNATION));
    let users: Vec<String> = (0..700).map(|n| format!("+ u{n}")).collect();
    for users in users.chunks(100) {
        fleet.write("gw-1", &one, GRACE_MS, &room(), &users.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_eq!(fleet.list(&room(), 10), (700, fleet.list(&room(), 10).1));
    assert_eq!(fleet.list(&room(), 10).1.len(), 10);
    fleet.reap("gw-2", &two, "gw-1");
    let stats: String = cmd("INFO").arg("commandstats").query(&mut fleet.admin).unwrap();
    assert!(stats.contains("cmdstat_rename:") && !stats.contains("cmdstat_sunionstore:"), "all were copied: {stats}");
    assert_eq!(fleet.list(&room(), 0).0, 700 - 256);
    assert_eq!(fleet.write("gw-2", &two, GRACE_MS, &room(), &[]), ["OK", "0"], "there are more");
    fleet.renew("gw-2", &two);
    assert_eq!(fleet.left_behind(), Vec::<String>::new());
    let mut left: HashMap<String, u32> = HashMap::new();
    for events in fleet.events().into_iter().filter(|events| events.starts_with('-')) {
        *left.entry(events.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!((left.len(), left.values().max()), (700, Some(&1)));
}

/// A member that is written again in time has not left; one that is not written again has left.
#[test]
fn an_incarnation_that_writes_its_members_again_makes_no_events() {
    let mut fleet = Fleet::start();
    let one = fleet.begin("gw-1", INCARNATION);
    fleet.write("gw-1", &one, GRACE_MS, &room(), &["+ alice", "+ bob"]);
    let again = fleet.begin("gw-1", INCARNATION);
    let keys = [fleet.keys.lease(&id("gw-1")), fleet.keys.peers()];
    let stale = fleet.call(Function::PRESENCE_REWRITE, &keys, &[&one, "gw-1", "0"]).unwrap();
    assert_eq!(stale, ["REFUSED", "TAKEN"]);
    assert_eq!(fleet.write("gw-1", &one, 0, &room(), &["- alice"]), ["REFUSED", "TAKEN"]);
    fleet.call(Function::PRESENCE_REWRITE, &keys, &[&again, "gw-1", "2000"]).unwrap();
    fleet.write("gw-1", &again, GRACE_MS, &room(), &["+ alice"]);
    sleep(Duration::from_millis(2_050));
    fleet.renew("gw-1", &again);
    assert_eq!(fleet.users(&room()), ["alice"]);
    assert_eq!(fleet.events(), ["+ alice 1", "+ bob 2", "- bob 1"]);
}

/// A new incarnation of the same instance has the grace to take over the members of the old one.
#[test]
fn a_new_incarnation_takes_over_from_the_old_one() {
    let mut fleet = Fleet::start();
    let old = fleet.begin("gw-1", INCARNATION);
    fleet.write("gw-1", &old, GRACE_MS, &room(), &["+ alice"]);
    cmd("DEL").arg(fleet.keys.lease(&id("gw-1"))).exec(&mut fleet.admin).unwrap();
    let new = fleet.begin("gw-1", "650000000000002b");
    fleet.write("gw-1", &new, GRACE_MS, &room(), &["+ alice"]);
    let goodbye = fleet.keys_of("gw-1", "650000000000002b");
    assert_eq!(fleet.call(Function::REGISTRY_RELEASE, &goodbye, &[&new, "gw-1", "0"]).unwrap(), ["OK"]);
    let two = fleet.begin("gw-2", INCARNATION);
    fleet.renew("gw-2", &two);
    // The new incarnation has ended, and the stale rows of the old one still have time.
    assert_eq!(fleet.users(&room()), ["alice"]);
    assert_eq!(fleet.events(), ["+ alice 1"]);
}

/// `docs/operations.md` says what a member costs.
#[test]
fn a_member_costs_what_the_document_says() {
    let mut fleet = Fleet::start();
    let token = fleet.begin("gw-1", INCARNATION);
    let commands = |fleet: &mut Fleet| -> u64 {
        let stats: String = cmd("INFO").arg("commandstats").query(&mut fleet.admin).unwrap();
        // The calls themselves are not counted, nor the checks of the lease, the clock and the types of keys.
        let counted = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")).filter(|line| {
            ["fcall", "info", "get", "time", "type"].iter().all(|other| !line.starts_with(&format!("{other}:")))
        });
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
        counted.filter_map(calls).sum()
    };
    let users: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let mut cost = |sign: &str, grace_ms| {
        let changes: Vec<String> = users.iter().map(|user| format!("{sign} {user}")).collect();
        let before = commands(&mut fleet);
        fleet.write("gw-1", &token, grace_ms, &room(), &changes.iter().map(String::as_str).collect::<Vec<_>>());
        commands(&mut fleet) - before
    };
    // Two more commands look for members that are due.
    assert_eq!(cost("+", GRACE_MS), 100 * 4 + 2 + 2);
    assert_eq!(cost("-", 1), 100 * 4 + 2);
    sleep(Duration::from_millis(5));
    assert_eq!(cost("-", 1) - 100 * 2, 100 * 3 + 2 + 3, "and three when they are due, in a later call");
}
