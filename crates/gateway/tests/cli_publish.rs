//! `tidegate publish` against a Redis of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use keyspace::{Keyspace, Library};
use wire::{Families, FamilyShape, Name, Position, Scope};

use test_support::{RedisCluster, RedisServer, SentinelSet, StagedSentinel, process};

fn publish(url: &str, args: &[&str], input: &str) -> Output {
    let mut child = begin(url, args);
    // It may end without reading.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn begin(url: &str, args: &[&str]) -> Child {
    let mut command = process::tidegate(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("publish").args(args).env("TIDEGATE_REDIS_URL", url).env("TIDEGATE_REDIS_REPLY_DEADLINE_MS", "30000");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn position(output: &Output) -> Position {
    assert_eq!(code(output), 0, "{}", stderr(output));
    std::str::from_utf8(&output.stdout).unwrap().trim_end().parse().unwrap()
}

/// All entries of a scope's stream: id, and fields with values.
fn entries(redis: &mut redis::Connection, prefix: &str, scope: &Scope) -> Vec<(String, Vec<String>)> {
    let stream = Keyspace::new(Name::parse(prefix).unwrap()).stream(scope);
    redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(redis).unwrap()
}

#[test]
fn the_library_is_loaded_if_missing_and_the_position_printed() {
    let mut server = RedisServer::start(&[]);
    let first = position(&publish(&server.url(), &["collection:42:ops", r#"{"n": 1}"#], ""));
    assert_eq!(first.offset, 1);
    let args = ["--type", "op.applied", "--correlation-id", "c1", "collection:42:ops", "-"];
    assert_eq!(position(&publish(&server.url(), &args, "[1,2]\n")), first.next());
    let args = ["--tenant", "acme", "collection:42:ops"];
    assert_eq!(position(&publish(&server.url(), &args, "")).offset, 1, "another tenant's is another scope");

    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let mut redis = server.connect();
    let stored = entries(&mut redis, "tidegate", &scope);
    assert_eq!(
        stored.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(),
        [first.to_string(), first.next().to_string()]
    );
    let text = |index: usize| stored[index].1.join(" ");
    assert!(text(0).contains(r#"{"type":"message","payload":{"n": 1}}"#), "{}", text(0));
    assert!(text(1).contains(r#"{"type":"op.applied","payload":[1,2],"correlation_id":"c1"}"#), "{}", text(1));
    assert!(text(0).contains("ops"), "{}", text(0));

    // What Redis forgets in a crash is loaded again.
    server.crash_and_restart();
    assert_eq!(position(&publish(&server.url(), &["system", "1"], "")).offset, 1);
}

#[test]
fn the_same_id_is_stored_once() {
    let server = RedisServer::start(&[]);
    let again = || publish(&server.url(), &["--id", "order-1", "user:alice", "1"], "");
    let first = position(&again());
    let second = again();
    assert_eq!(code(&second), 0, "{}", stderr(&second));
    assert_eq!(String::from_utf8_lossy(&second.stdout), format!("{first} duplicate\n"));
    let scope = Families::default().parse_scope("default/user:alice").unwrap();
    assert_eq!(entries(&mut server.connect(), "tidegate", &scope).len(), 1);
}

#[test]
fn many_lines_are_stored_in_order_and_once_when_repeated() {
    let server = RedisServer::start(&[]);
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let input: String = (1..=1_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let args = ["--lines", "--id", "import-7", "--type", "op", "collection:42:ops"];
    let first = publish(&server.url(), &args, &input);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let lines = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap().lines().map(String::from).collect();
    let positions: Vec<String> = lines(&first);
    let offsets: Vec<u64> = positions.iter().map(|line| line.parse::<Position>().unwrap().offset).collect();
    assert_eq!(offsets, (1..=1_000).collect::<Vec<_>>());
    let mut redis = server.connect();
    let stored = entries(&mut redis, "tidegate", &scope);
    assert!(stored[999].1.join(" ").contains(r#"{"type":"op","payload":{"n":1000}}"#), "{:?}", stored[999]);
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")).unwrap();
    assert!(calls.split(',').next().unwrap().parse::<u32>().unwrap() < 100, "in batches: {calls}");

    // Interrupted and begun again, with more behind.
    let second = publish(&server.url(), &args, &format!("{input}{{\"n\":1001}}\n"));
    let answers: Vec<String> = lines(&second);
    assert!(answers[..1_000].iter().zip(&positions).all(|(line, at)| *line == format!("{at} duplicate")));
    assert_eq!(answers[1_000].parse::<Position>().unwrap().offset, 1_001);
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_is_stored() {
    let server = RedisServer::start(&[]);
    let scope = Families::default().parse_scope("default/system").unwrap();
    let output = publish(&server.url(), &["--lines", "system"], "1\n\n2\nthree\n4\n");
    assert_eq!(code(&output), 65);
    assert!(stderr(&output).contains("line 4: the payload is not JSON"), "{}", stderr(&output));
    assert_eq!(entries(&mut server.connect(), "tidegate", &scope).len(), 2);
    let full = RedisServer::start(&["--maxmemory", "1"]);
    let output = publish(&full.url(), &["--lines", "system"], "\n1\n2\n");
    assert_eq!(code(&output), 69);
    assert!(stderr(&output).contains("lines 2 to 3: Redis refused"), "{}", stderr(&output));
}

#[test]
fn the_library_of_the_gateways_is_left_as_it_is() {
    let server = RedisServer::start(&[]);
    let families = Families::default();
    let theirs = Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 7)));
    let mut redis = server.connect();
    redis::cmd("FUNCTION").arg("LOAD").arg(theirs.source()).exec(&mut redis).unwrap();
    position(&publish(&server.url(), &["user:alice", "1"], ""));
    let (_, digest, _): (i64, String, u64) =
        redis::cmd("FCALL_RO").arg("tidegate_version").arg(0).query(&mut redis).unwrap();
    assert_eq!(digest, theirs.digest());
}

#[test]
fn prefix_and_families_come_from_the_configuration() {
    let server = RedisServer::start(&[]);
    let args = ["--set", "redis.prefix=staging", "--set", "families=[{ name = 'room' }]", "room:1", "1"];
    position(&publish(&server.url(), &args, ""));
    let rooms = Families::new(vec![FamilyShape { name: "room".into(), keyed: true }]);
    let scope = rooms.parse_scope("default/room:1").unwrap();
    assert_eq!(entries(&mut server.connect(), "staging", &scope).len(), 1);
}

#[test]
fn what_cannot_be_delivered_is_not_sent() {
    // Nothing listens there: it is refused before Redis is asked.
    let url = "redis://127.0.0.1:1";
    let large = format!("\"{}\"", "x".repeat(2_000));
    for (args, expected) in [
        (&["room:1", "1"][..], "no channel family \"room\""),
        (&["collection:42:*", "1"], "without a wildcard"),
        (&["collection:{42}", "1"], "not allowed in a name"),
        (&["system", "{"], "the payload is not JSON"),
        (&["system", "1 2"], "the payload is not JSON"),
        (&["--type", "error", "system", "1"], "none of the control types"),
        (&["--type", "", "system", "1"], "a message type has"),
        (&["--correlation-id", "", "system", "1"], "a correlation id has"),
        (&["--id", "", "system", "1"], "an id has 1 to 200 bytes"),
        (&["--id", "a/b", "system", "1"], "must not contain a slash"),
        (&["--set", "limits.message_bytes_max=1024", "system", &large], "limits.message_bytes_max"),
        (&["--set", "limits.message_bytes_max=1024", "system", "-"], "limits.message_bytes_max"),
    ] {
        let output = publish(url, args, &large);
        assert_eq!(code(&output), 65, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(code(&publish(url, &["--tenant", "a/b", "system", "1"], "")), 64);
    assert_eq!(code(&publish("", &["system", "1"], "")), 64, "no Redis is named");
}

#[test]
fn a_redis_that_is_not_there_or_refuses_has_stored_nothing() {
    let mut server = RedisServer::start(&["--maxmemory", "1"]);
    let full = publish(&server.url(), &["system", "1"], "");
    assert_eq!(code(&full), 69, "{}", stderr(&full));
    assert!(stderr(&full).contains("refused") && stderr(&full).contains("OOM"), "{}", stderr(&full));

    let url = format!("redis://127.0.0.1:{}", server.port());
    server.crash();
    let gone = publish(&url, &["system", "1"], "");
    assert_eq!(code(&gone), 69, "{}", stderr(&gone));
    server.restart();
}

#[test]
fn silence_after_the_call_means_that_nobody_knows() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let redis = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let mut received = String::new();
        loop {
            let n = stream.read(&mut bytes).unwrap();
            if n == 0 {
                return received;
            }
            let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
            received += &text;
            // Greetings are answered, whatever they are; the call is not.
            if !received.contains("tidegate_relay") {
                let commands = text.lines().filter(|line| line.starts_with('*')).count();
                stream.write_all("+OK\r\n".repeat(commands).as_bytes()).unwrap();
            }
        }
    });
    let silent = publish(&url, &["--set", "redis.reply_deadline_ms=2000", "system", "1"], "");
    assert_eq!(code(&silent), 75, "{}", stderr(&silent));
    assert!(stderr(&silent).contains("may have been stored"), "{}", stderr(&silent));
    assert!(redis.join().unwrap().contains("tidegate_relay"));
}

#[test]
fn the_primary_is_found_by_its_sentinels() {
    let set = SentinelSet::start(&[]);
    let first = position(&publish(&set.url(), &["collection:42:ops", "1"], ""));
    set.switch();
    let second = position(&publish(&set.url(), &["collection:42:ops", "2"], ""));
    assert!(second.generation > first.generation, "{first} then {second}");
    let unknown = publish(&set.url().replace("/main", "/other"), &["collection:42:ops", "3"], "");
    assert_eq!(code(&unknown), 69);
    assert!(stderr(&unknown).contains(r#"no Sentinel watches a master called "other""#), "{}", stderr(&unknown));
}

/// Both servers take what they are given, and the connection to the first one is never cut.
#[test]
fn lines_that_come_after_a_failover_go_to_the_new_primary() {
    let [old, new] = [RedisServer::start(&[]), RedisServer::start(&[])];
    let sentinels = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, old.port()));
    let mut child = begin(&StagedSentinel::url(&sentinels), &["--lines", "collection:42:ops"]);
    let (mut lines, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut send = || {
        lines.write_all(b"1\n").unwrap();
        answers.next().expect("it goes on").unwrap();
    };
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let stored = |server: &RedisServer| entries(&mut server.connect(), "tidegate", &scope).len();
    send();
    assert_eq!((stored(&old), stored(&new)), (1, 0));
    sentinels.iter().for_each(|sentinel| sentinel.learn(7, new.port()));
    let begun = Instant::now();
    while stored(&new) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays with the old one");
        std::thread::sleep(Duration::from_millis(20));
        send();
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_node_of_a_cluster_is_found_whatever_is_on_its_way() {
    let cluster = RedisCluster::start();
    // The slot of the scope, by the number that CLUSTER KEYSLOT gives; it is the last node's.
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let slot = Keyspace::default().slot(&scope).number();
    let owner = (0..3).find(|index| RedisCluster::slots_of(*index).contains(&slot)).unwrap();
    let other = (owner + 1) % 3;
    let send = |payload: &str| position(&publish(&cluster.url(), &["collection:42:ops", payload], ""));
    let first = send("1");
    cluster.begin_move(slot, owner, other);
    cluster.move_keys(slot, owner, other);
    let second = send("2");
    assert!(second.generation > first.generation, "asked for at its new place");
    cluster.end_move(slot, owner, other);
    assert_eq!(send("3"), second.next());
    let misled = publish(&cluster.primaries[owner].url(), &["collection:42:ops", "4"], "");
    assert_eq!(code(&misled), 0, "{}", stderr(&misled));
}
