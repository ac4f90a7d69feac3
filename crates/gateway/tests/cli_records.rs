//! `tidegate dlq` and `tidegate receipts`, on records of every kind in a Redis of its own.

use std::future::Future;
use std::process::{Output, Stdio};
use std::time::Duration;

use keyspace::{Keyspace, Library};
use records::{Body, Bounds, DeadLetter, Loading, Reason, RedisStore, RedisStoreConfig, Store};
use serde_json::Value;
use test_support::{RedisServer, process};
use wire::{Families, InstanceId, Position, Timestamp, UserId};

fn dlq(url: &str, args: &[&str]) -> Output {
    tidegate(url, "dlq", args)
}

fn receipts(url: &str, args: &[&str]) -> Output {
    let keeps = "families=[{ name = 'collection', receipts = true }]";
    tidegate(url, "receipts", &[&["--tenant", "acme", "--set", keeps], args].concat())
}

fn tidegate(url: &str, name: &str, args: &[&str]) -> Output {
    let mut command = process::tidegate(env!("CARGO_BIN_EXE_tidegate"));
    command.arg(name).args(args).env("TIDEGATE_REDIS_REPLY_DEADLINE_MS", "30000").stdin(Stdio::null());
    if !url.is_empty() {
        command.env("TIDEGATE_REDIS_URL", url);
    }
    command.output().expect("it was built for this test")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn done(output: &Output) -> &str {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output)
}

fn store(server: &RedisServer) -> RedisStore {
    let families = Families::default();
    RedisStore::new(RedisStoreConfig {
        target: redis_topology::Target::parse(&server.url()).unwrap(),
        connections_max: 1,
        keyspace: Keyspace::default(),
        library: Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100))),
        loading: Loading::Replace,
        deadline: Duration::from_secs(30),
        bounds: Bounds { entries_max: 1_000, ttl: Duration::from_secs(600) },
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn keep(server: &RedisServer, dead_letters: impl IntoIterator<Item = DeadLetter>) {
    let store = store(server);
    block_on(async {
        for dead_letter in dead_letters {
            assert_eq!(store.keep(&dead_letter).await, Ok(true));
        }
    });
}

/// What an isolated instance took.
fn isolated(number: u64) -> DeadLetter {
    let message = format!(r#"{{"type":"n","payload":{number}}}"#);
    DeadLetter {
        dedup_key: format!("isolated {number}").into(),
        reason: Reason::Isolated,
        instance: InstanceId::parse("gw-1").unwrap(),
        scope: Families::default().parse_scope("acme/collection:42").unwrap(),
        topic: "ops".into(),
        user: Some(UserId::parse("alice").unwrap()),
        position: None,
        time: Timestamp(1_795_176_000_000 + number),
        detail: "accepted while Redis was away".into(),
        size: message.len(),
        body: Body::Message(message.into()),
    }
}

/// What nobody can read, and what would like to clear the operator's screen.
fn poison(body: Body) -> DeadLetter {
    DeadLetter {
        dedup_key: format!("poison {body:?}").into(),
        reason: Reason::Poison,
        user: None,
        position: Some(Position::new(7, 42)),
        detail: "not a message: \u{1b}[2J expected `:`".into(),
        size: 8,
        body,
        ..isolated(0)
    }
}

fn ids(server: &RedisServer, args: &[&str]) -> Vec<String> {
    let output = dlq(&server.url(), &[&["list", "--json", "--tenant", "acme"], args].concat());
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    done(&output).lines().map(id).collect()
}

/// Messages of the scope as they are stored: the entries' text.
fn stored(server: &RedisServer) -> Vec<String> {
    let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    let stream = Keyspace::default().stream(&scope);
    let entries: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut server.connect()).unwrap();
    entries.into_iter().map(|(_, fields)| fields[5].clone()).collect()
}

#[test]
fn dead_letters_are_listed_newest_first_and_shown_whole() {
    let server = RedisServer::start(&[]);
    let empty = dlq(&server.url(), &["list"]);
    assert_eq!((done(&empty), stderr(&empty)), ("", "tidegate: no dead letters of tenant default\n"));

    keep(&server, [isolated(1), poison(Body::Message(b"\x1b[2J\xff".to_vec().into())), isolated(2)]);
    let table = dlq(&server.url(), &["list", "--tenant", "acme"]);
    let lines: Vec<&str> = done(&table).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("WHAT"), "{}", lines[0]);
    assert!(lines[1].contains("isolated  collection:42:ops  -     "), "{}", lines[1]);
    assert!(lines[2].contains("poison    collection:42:ops  7-42  "), "{}", lines[2]);
    assert!(!stdout(&table).contains('\u{1b}'), "{:?}", stdout(&table));
    assert!(lines[3].contains("gw-1      alice  accepted while Redis was away"), "{}", lines[3]);

    let all = ids(&server, &[]);
    assert_eq!(ids(&server, &["--reason", "poison"]), all[1..2]);
    let limited = dlq(&server.url(), &["list", "--tenant", "acme", "--limit", "2"]);
    assert_eq!(done(&limited).lines().count(), 3);
    assert!(stderr(&limited).contains("newest 2; there are more (--limit)"), "{}", stderr(&limited));

    let shown = dlq(&server.url(), &["show", "--tenant", "acme", &all[1]]);
    let shown = done(&shown);
    assert!(shown.contains("message    G1sySv8= (base64)\n") && shown.contains("position   7-42\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let json = dlq(&server.url(), &["show", "--tenant", "acme", "--json", &all[0]]);
    let json: Value = serde_json::from_str(done(&json)).unwrap();
    assert_eq!((&json["message"], &json["user"]), (&r#"{"type":"n","payload":2}"#.into(), &"alice".into()));
    assert_eq!(json["published"], "2026-11-20T12:00:00.002Z");
    // Another tenant's is not there.
    assert_eq!(code(&dlq(&server.url(), &["show", &all[0]])), 1);
}

#[test]
fn replaying_publishes_in_order_once_and_removes() {
    let server = RedisServer::start(&[]);
    keep(&server, [isolated(1), isolated(2), isolated(3)]);
    let all = ids(&server, &[]);
    // Named in any order, published as they came.
    let first = dlq(&server.url(), &["replay", "--tenant", "acme", &all[0], &all[2]]);
    assert_eq!(done(&first).lines().count(), 2, "{}", stdout(&first));
    assert!(stdout(&first).lines().next().unwrap().starts_with(&format!("{}  stored at ", all[2])));
    let payload = |n: u64| format!(r#"{{"type":"n","payload":{n}}}"#);
    assert_eq!(stored(&server), [payload(1), payload(3)]);
    assert_eq!(ids(&server, &[]), all[1..2]);

    let again = dlq(&server.url(), &["replay", "--tenant", "acme", &all[0]]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("there is no such dead letter"), "{}", stderr(&again));
    done(&dlq(&server.url(), &["replay", "--tenant", "acme", "--all"]));
    assert_eq!(stored(&server), [payload(1), payload(3), payload(2)]);
    assert_eq!(ids(&server, &[]), <[String; 0]>::default());
}

/// The answer to a replay was lost, or two operators did the same at once.
#[test]
fn a_dead_letter_that_is_replayed_twice_is_stored_once() {
    let server = RedisServer::start(&[]);
    keep(&server, [isolated(1)]);
    let dead_letters = Keyspace::default().dead_letters(&wire::TenantId::parse("acme").unwrap());
    let dumped: Vec<u8> = redis::cmd("DUMP").arg(&dead_letters).query(&mut server.connect()).unwrap();
    let first = dlq(&server.url(), &["replay", "--tenant", "acme", "--all"]);
    let first = done(&first).to_owned();
    redis::cmd("RESTORE").arg(&dead_letters).arg(0).arg(dumped).arg("REPLACE").exec(&mut server.connect()).unwrap();
    let second = dlq(&server.url(), &["replay", "--tenant", "acme", "--all"]);
    assert_eq!(done(&second), first, "the same letter stands where it stood");
    assert_eq!(stored(&server).len(), 1);
}

#[test]
fn what_would_die_again_stays() {
    let server = RedisServer::start(&[]);
    let binary = b"\x01\x00\x0c{\"type\":\"t\"}\xff".to_vec();
    keep(
        &server,
        [
            poison(Body::Message("{\"type\":".into())),
            poison(Body::Redacted),
            poison(Body::TooBig),
            poison(Body::Message(binary.into())),
        ],
    );
    let output = dlq(&server.url(), &["replay", "--tenant", "acme", "--all"]);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    let why: Vec<&str> = stderr(&output).lines().collect();
    for (line, expected) in why.iter().zip(["not a message", "redacts", "longer than", "accepts no binary messages"]) {
        assert!(line.contains("not replayed") && line.contains(expected), "{line}");
    }
    assert_eq!((why.len(), ids(&server, &[]).len(), stored(&server).len()), (4, 4, 0));
    // Since then its family takes binary messages.
    let family = "families=[{ name = 'collection', binary = true }]";
    let id = &ids(&server, &[])[0];
    done(&dlq(&server.url(), &["replay", "--tenant", "acme", "--set", family, id]));
    assert_eq!(ids(&server, &[]).len(), 3);
}

#[test]
fn dropping_counts_what_was_there() {
    let server = RedisServer::start(&[]);
    keep(&server, [isolated(1), poison(Body::Redacted), isolated(2)]);
    let all = ids(&server, &[]);
    assert_eq!(done(&dlq(&server.url(), &["drop", "--tenant", "acme", &all[0]])), "1 dropped\n");
    let gone = dlq(&server.url(), &["drop", "--tenant", "acme", &all[0]]);
    assert_eq!((code(&gone), stdout(&gone)), (1, "0 dropped\n"));
    assert_eq!(done(&dlq(&server.url(), &["drop", "--tenant", "acme", "--all", "--reason", "poison"])), "1 dropped\n");
    assert_eq!(ids(&server, &[]), all[2..]);
}

#[test]
fn a_wrong_command_says_what_is_right() {
    for (args, expected) in [
        (&["replay"][..], "<ID>"),
        (&["drop", "1-0", "--all"], "cannot be used with"),
        (&["drop", "1-0", "--reason", "poison"], "cannot be used with"),
        (&["drop", "--reason", "poison"], "--all"),
        (&["list", "--reason", "bad"], "expected one of poison, isolated"),
        (&["show", "latest"], "as `tidegate dlq list` prints it"),
        (&["list", "--tenant", "a/b"], "not allowed in a name"),
        (&["list"], "which this command cannot read"),
        (&["list", "--set", "broker=memory"], "which this command cannot read"),
    ] {
        let output = dlq("", args);
        assert_eq!(code(&output), 64, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    let nobody = dlq("redis://127.0.0.1:1", &["list"]);
    assert_eq!(code(&nobody), 69, "{}", stderr(&nobody));
}

fn scope() -> wire::Scope {
    Families::default().parse_scope("acme/collection:42").unwrap()
}

/// Stores messages in collection 42 of tenant acme; the last one's position.
fn publish(server: &RedisServer, count: usize) -> Position {
    let keys = Keyspace::default();
    let mut publish = redis::cmd("FCALL");
    publish.arg("tidegate_publish").arg(2).arg(keys.stream(&scope())).arg(keys.meta(&scope()));
    for _ in 0..count {
        publish.arg("ops").arg(r#"{"type":"n"}"#);
    }
    // A Redis that has just started reads its file first, and one without the library is given it by any question.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = block_on(store(server).scope_receipts(&scope(), &[], 1)) {
        assert!(std::time::Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let position: String = publish.query(&mut server.connect()).unwrap();
    position.parse().unwrap()
}

fn acknowledge(server: &RedisServer, user: &str, position: Position) {
    let batch = [(scope(), vec![(UserId::parse(user).unwrap(), position)])];
    assert_eq!(block_on(store(server).write_receipts(&batch)), Ok(1));
}

#[test]
fn receipts_are_listed_with_the_furthest_behind_first() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    // The command loads the library where there is none.
    let none = receipts(&server.url(), &["--channel", "collection:42"]);
    assert_eq!((done(&none), stderr(&none)), ("", "tidegate: no receipts in collection:42\n"));
    let top = publish(&server, 5);
    acknowledge(&server, "alice", top);
    acknowledge(&server, "bob", Position::new(top.generation, 2));
    let table = receipts(&server.url(), &["--channel", "collection:42:ops"]);
    let lines: Vec<Vec<&str>> = done(&table).lines().map(|line| line.split_whitespace().collect()).collect();
    let (alice, bob) = (top.to_string(), format!("{}-2", top.generation));
    assert_eq!(lines[0], ["USER", "LAG", "ACKNOWLEDGED", "TOP", "TIME"]);
    assert_eq!(
        (&lines[1][..4], &lines[2][..4]),
        (&["bob", "3", &bob, &alice][..], &["alice", "0", &alice, &alice][..])
    );

    let one = receipts(&server.url(), &["--channel", "collection:42", "--user", "bob", "--json"]);
    let one: Value = serde_json::from_str(done(&one)).unwrap();
    assert_eq!((&one["lag"], &one["exact"], &one["acknowledged"]), (&3.into(), &true.into(), &bob.as_str().into()));
    let limited = receipts(&server.url(), &["--channel", "collection:42", "--limit", "1"]);
    assert!(done(&limited).lines().count() == 2 && stderr(&limited).contains("1 more (--limit)"));
    let nobody = receipts(&server.url(), &["--channel", "collection:42", "--user", "carol", "--user", "bob"]);
    assert_eq!((code(&nobody), stdout(&nobody).lines().count()), (1, 2));
    assert!(stderr(&nobody).contains("carol has no receipt in collection:42"), "{}", stderr(&nobody));

    // A restart may have lost writes: from there on the number is an upper bound.
    server.crash_and_restart();
    publish(&server, 2);
    let after = receipts(&server.url(), &["--channel", "collection:42", "--user", "bob"]);
    assert!(done(&after).lines().nth(1).unwrap().starts_with("bob   ~5 "), "{}", stdout(&after));
}

#[test]
fn whether_a_user_has_got_a_message_is_yes_no_or_unknown() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let top = publish(&server, 5);
    acknowledge(&server, "alice", Position::new(top.generation, 4));
    let ask = |url: &str, users: &[&str], position: Position| {
        let position = position.to_string();
        let mut args = vec!["--channel", "collection:42", "--position", &position];
        users.iter().for_each(|user| args.extend(["--user", user]));
        let output = receipts(url, &args);
        (code(&output), stdout(&output).split_whitespace().next().unwrap_or_default().to_owned())
    };
    let at = |offset| Position::new(top.generation, offset);
    let url = server.url();
    assert_eq!(ask(&url, &["alice"], at(4)), (0, "yes".into()));
    assert_eq!(ask(&url, &["alice"], at(5)), (1, "no".into()));
    assert_eq!(ask(&url, &["bob"], at(1)), (1, "no".into()));
    assert_eq!(ask(&url, &["alice", "bob"], at(1)).0, 1, "one who has not is enough");
    assert_eq!(ask(&url, &["alice"], at(6)), (75, "unknown".into()), "never handed out");
    // The fifth was handed out before the restart; a sixth was not, so whoever names it saw a Redis that lost it.
    server.crash_and_restart();
    let new = publish(&server, 1);
    acknowledge(&server, "alice", new);
    assert_eq!(ask(&url, &["alice"], at(5)), (0, "yes".into()));
    assert_eq!(ask(&url, &["alice"], at(6)), (75, "unknown".into()));
    assert_eq!(ask(&url, &["alice"], new), (0, "yes".into()));
}

#[test]
fn a_wrong_question_says_what_is_right() {
    for (args, expected, exit) in [
        (&["--user", "alice"][..], "--channel", 64),
        (&["--channel", "collection:42", "--position", "7-1"], "--user", 64),
        (&["--channel", "collection:42", "--user", "alice", "--position", "last"], "generation-offset", 64),
        (&["--channel", "room:1"], "no channel family", 65),
    ] {
        let output = receipts("redis://127.0.0.1:1", args);
        assert_eq!(code(&output), exit, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(code(&receipts("redis://127.0.0.1:1", &["--channel", "collection:42"])), 69);
    assert_eq!(code(&receipts("", &["--channel", "collection:42"])), 64);
    let server = RedisServer::start(&[]);
    let family = tidegate(&server.url(), "receipts", &["--channel", "user:alice"]);
    assert!(stderr(&family).contains("the family user keeps no receipts"), "{}", stderr(&family));
}

/// `docs/redis.md` prints the operator's rights: each command works with them. A function that is refused half-way may
/// have been carried out, and the command says so.
#[test]
fn an_operator_can_do_what_the_documents_say() {
    let server = RedisServer::start(&[]);
    let mut redis = server.connect();
    let doc = include_str!("../../../docs/redis.md");
    let line = doc.lines().find(|line| line.starts_with("ACL SETUSER operator ")).expect("the line is documented");
    redis::cmd("ACL").arg(line.split(' ').skip(1).collect::<Vec<_>>()).exec(&mut redis).unwrap();
    let families = Families::default();
    let library = Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100)));
    redis::cmd("FUNCTION").arg("LOAD").arg(library.source()).exec(&mut redis).unwrap();
    let peer = r#"1 {"incarnation":"0000000700000009","heartbeat":1,"address":"127.0.0.1:1"}"#;
    redis::cmd("HSET").arg("tidegate:{registry}:peers").arg("gw-1").arg(peer).exec(&mut redis).unwrap();
    let session = format!("{:032x}", 7);
    let users = "tidegate:{registry}:users:gw-1:0000000700000009";
    let row = format!("{session}@5");
    redis::cmd("HSET").arg(users).arg(&["default/alice", &row, "#default/alice", "1"]).exec(&mut redis).unwrap();

    let url = format!("redis://operator:PASSWORD@127.0.0.1:{}/", server.port());
    for (name, args) in [("who", &["alice"][..]), ("kick", &["alice"]), ("send", &["alice", "1", "--event", "e"])] {
        assert!(done(&tidegate(&url, name, args)).contains(&session), "{name}");
    }
    done(&dlq(&url, &["list"]));
    let log: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(&mut redis).unwrap();
    assert!(log.is_empty(), "{log:?}");

    redis::cmd("ACL").arg(&["SETUSER", "operator", "-lpush"]).exec(&mut redis).unwrap();
    let half = tidegate(&url, "kick", &["alice"]);
    assert_eq!(code(&half), 75, "{}", stderr(&half));
}
