//! The function library on a real Redis: what is stored, counted, published, kept and refused.

mod foreign;
mod refusals;
mod unused;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keyspace::{Function, Keyspace, Library, PublishCall, PublishItem, ReplyPart};
use redis::{Connection, Value, cmd};
use test_support::RedisServer;
use wire::{Envelope, Families, FamilyShape, Position, Scope};

const TTL_MS: u64 = 60_000;
const MESSAGE: &str = r#"{"type":"t"}"#;

/// `user` keeps 1,000 messages, `room` keeps 10 and `nothing` none; `system` has no ids. All are kept for one minute.
fn library() -> Library {
    let shape = |name: &str, keyed| FamilyShape { name: name.into(), keyed };
    let families = [
        (shape("user", true), 1_000),
        (shape("room", true), 10),
        (shape("nothing", true), 0),
        (shape("system", false), 1_000),
    ];
    Library::new(families.iter().map(|(shape, entries)| (shape, TTL_MS, *entries)))
}

fn load(redis: &mut Connection) {
    cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(library().source()).exec(redis).expect("the library loads");
}

fn server() -> (RedisServer, Connection) {
    let server = RedisServer::start(&[]);
    let mut redis = server.connect();
    load(&mut redis);
    (server, redis)
}

fn scope(name: &str) -> Scope {
    let shape = |name: &str, keyed| FamilyShape { name: name.into(), keyed };
    let shapes = vec![shape("user", true), shape("room", true), shape("nothing", true), shape("system", false)];
    Families::new(shapes).parse_scope(&format!("acme/{name}")).expect("tests name scopes")
}

fn call<T: redis::FromRedisValue>(
    redis: &mut Connection,
    function: Function,
    scope: &Scope,
    args: &[&str],
) -> redis::RedisResult<T> {
    let keys = Keyspace::default();
    let mut command = cmd(function.command());
    command.arg(function.name).arg(function.keys).arg(keys.stream(scope)).arg(keys.meta(scope)).arg(args);
    command.query(redis)
}

fn try_publish(redis: &mut Connection, scope: &Scope, count: usize) -> redis::RedisResult<Position> {
    let call = PublishCall::new(&Keyspace::default(), scope, false);
    let item = PublishItem { topic: "topic", message: MESSAGE.as_bytes(), id: None };
    let answer = publish_call(redis, &call, std::iter::repeat_n(item, count))?;
    let placed = call.read(count, &answer, part).expect("publishing answers with a position");
    Ok(placed.last().expect("one for each message").0)
}

fn publish_call<'m>(
    redis: &mut Connection,
    call: &PublishCall,
    items: impl Iterator<Item = PublishItem<'m>>,
) -> redis::RedisResult<Value> {
    let mut command = redis::Cmd::new();
    call.write(items, |word| {
        command.arg(word);
    });
    command.query(redis)
}

fn part(value: &Value) -> ReplyPart<'_, Value> {
    match value {
        Value::BulkString(text) => ReplyPart::Text(text),
        Value::Int(number) => ReplyPart::Number(*number),
        Value::Array(parts) => ReplyPart::List(parts),
        _ => ReplyPart::Other,
    }
}

fn publish(redis: &mut Connection, scope: &Scope, count: usize) -> Position {
    try_publish(redis, scope, count).expect("it is taken")
}

type EntryRow = (String, u64, String, String);

#[derive(Debug)]
struct Read {
    top: Position,
    earlier: Vec<Position>,
    entries: Vec<EntryRow>,
    more: bool,
}

impl Read {
    fn offsets(&self) -> Vec<u64> {
        self.entries.iter().map(|(id, ..)| id.parse::<Position>().expect("entries have positions").offset).collect()
    }
}

fn read(redis: &mut Connection, scope: &Scope, after: &str, entries_max: &str) -> Read {
    let (top, earlier, entries, more): (String, Vec<String>, Vec<EntryRow>, u8) =
        call(redis, Function::READ, scope, &[after, entries_max]).expect("it is readable");
    let position = |text: &String| text.parse().expect("positions are listed");
    Read { top: position(&top), earlier: earlier.iter().map(position).collect(), entries, more: more == 1 }
}

#[test]
fn the_handles_are_the_library() {
    let (_server, mut redis) = server();
    let functions = [
        Function::PUBLISH,
        Function::PUBLISH_ONCE,
        Function::RELAY,
        Function::RELAY_ONCE,
        Function::READ,
        Function::OPEN,
        Function::PROBE,
        Function::VERSION,
    ];
    let list: Vec<redis::Value> =
        cmd("FUNCTION").arg("LIST").arg("LIBRARYNAME").arg(Library::NAME).query(&mut redis).expect("it is loaded");
    let listed = format!("{list:?}");
    for function in functions {
        assert!(listed.contains(&format!("bulk-string('\"{}\"')", function.name)), "{} in {listed}", function.name);
        // FCALL_RO accepts exactly the functions that are declared to write nothing.
        let mut command = cmd("FCALL_RO");
        command.arg(function.name).arg(function.keys).arg(vec!["x"; function.keys as usize]);
        let refusal = command.query::<Value>(&mut redis).err().map(|e| e.to_string()).unwrap_or_default();
        let writes = refusal.contains("Can not execute a script with write flag");
        assert_eq!(writes, !function.read_only, "{}: {refusal:?}", function.name);
    }
    let (version, digest, precedence): (u32, String, u64) =
        cmd("FCALL_RO").arg(Function::VERSION.name).arg(0).query(&mut redis).expect("it tells its version");
    assert_eq!(library().compare(version, &digest, precedence), keyspace::Loaded::Same);
}

#[test]
fn a_batch_is_stored_counted_and_published_as_one() {
    let (server, mut redis) = server();
    let scope = scope("user:7");
    let mut listener = server.connect();
    let mut listener = listener.as_pubsub();
    listener.subscribe(Keyspace::default().channel(&scope)).unwrap();

    let args = ["", MESSAGE, "ops:cursor", "{\n}", "\u{7e}", "\u{1}\u{0}\u{2}{}\u{0}"];
    let position: String = call(&mut redis, Function::RELAY, &scope, &args).unwrap();
    let position: Position = position.parse().unwrap();
    assert_eq!(position.offset, 3);
    let second: String = call(&mut redis, Function::RELAY, &scope, &["x", "{}"]).unwrap();
    assert_eq!(second, position.next().to_string());

    let received = listener.get_message().unwrap();
    let envelope = Envelope::parse(received.get_payload_bytes()).expect("it publishes what wire reads");
    let items: Vec<_> = envelope.items().map(|item| item.expect("every message is whole")).collect();
    let sent: Vec<_> = args
        .chunks(2)
        .zip(1..)
        .map(|(pair, offset)| (Position::new(position.generation, offset), pair[0], pair[1].as_bytes()))
        .collect();
    assert_eq!(items, sent);

    let first = Position::new(position.generation, 0).to_string();
    let kept = read(&mut redis, &scope, &first, "3");
    assert_eq!((kept.offsets(), kept.more), (vec![1, 2, 3], true));
    assert_eq!(kept.top.to_string(), second);
    let (_, time, topic, message) = &kept.entries[1];
    assert_eq!((*time, topic.as_str(), message.as_str()), (envelope.time.0, "ops:cursor", "{\n}"));
    assert_eq!(read(&mut redis, &scope, &kept.entries[2].0, "3").offsets(), [4]);
    assert!(read(&mut redis, &scope, &second, "3").entries.is_empty());
    assert!(read(&mut redis, &scope, "", "3").entries.is_empty(), "nothing is read without a position");
}

#[test]
fn a_generation_is_made_of_time_and_replication_id_and_begins_with_a_new_id() {
    let (_server, mut redis) = server();
    let scope = scope("user:7");
    let first = publish(&mut redis, &scope, 2);
    let info: String = cmd("INFO").arg("replication").query(&mut redis).unwrap();
    let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap();
    // A scope without an earlier generation adds the milliseconds.
    let begun_ms = read(&mut redis, &scope, &Position::new(first.generation, 0).to_string(), "1").entries[0].1 % 1_000;
    let id_bits = u64::from_str_radix(&id[..4], 16).unwrap();
    assert_eq!(first.generation & 0xffff, (id_bits + begun_ms * 64) % 65_536);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&(first.generation >> 16)), "{first} began now");

    cmd("DEBUG").arg("CHANGE-REPL-ID").exec(&mut redis).unwrap();
    // Nothing has been published under the new id: the top is still the old one, and later messages come after it.
    assert_eq!(read(&mut redis, &scope, "", "0").top, first);
    let second = publish(&mut redis, &scope, 1);
    assert!(second.generation > first.generation);
    assert_eq!(second.offset, 1);
    let kept = read(&mut redis, &scope, &Position::new(first.generation, 1).to_string(), "9");
    assert_eq!(kept.earlier, [first]);
    assert_eq!(kept.offsets(), [2, 1], "a range runs over the change");

    let mut generations = vec![first, second];
    for _ in 0..20 {
        cmd("DEBUG").arg("CHANGE-REPL-ID").exec(&mut redis).unwrap();
        generations.push(publish(&mut redis, &scope, 1));
    }
    assert!(generations.is_sorted(), "generations are ordered: {generations:?}");
    let newest = generations.pop().unwrap();
    let kept = read(&mut redis, &scope, "", "0");
    assert_eq!(kept.top, newest);
    assert_eq!(kept.earlier, generations[generations.len() - 16..], "the last sixteen are known");
}

#[test]
fn a_crash_that_loses_writes_begins_a_generation_above_the_top_that_was_saved() {
    let (mut server, mut redis) = server();
    let scope = scope("user:7");
    let saved = publish(&mut redis, &scope, 3);
    cmd("SAVE").exec(&mut redis).unwrap();
    let lost = publish(&mut redis, &scope, 2);
    server.crash_and_restart();
    let mut redis = server.connect();
    let after = publish(&mut redis, &scope, 3);
    assert!(after.generation > lost.generation, "offsets of the lost messages are not handed out again");
    let kept = read(&mut redis, &scope, &Position::new(saved.generation, 2).to_string(), "9");
    assert_eq!(kept.earlier, [saved], "who holds {lost} can see that it was lost");
    assert_eq!(kept.offsets(), [3, 1, 2, 3]);
}

/// A message that was delivered and lost by Redis is marked at its place, once, and a generation begins after it.
#[test]
fn a_loss_is_marked_at_its_place() {
    let (mut server, mut redis) = server();
    let scope = scope("user:7");
    let lost = |redis: &mut Connection, at: Position| {
        let marked: u8 = call(redis, Function::LOST, &scope, &[&at.to_string()]).unwrap();
        let earlier: String = cmd("HGET").arg(Keyspace::default().meta(&scope)).arg("e").query(redis).unwrap();
        (marked, earlier)
    };
    let saved = publish(&mut redis, &scope, 3);
    assert_eq!(lost(&mut redis, saved), (0, String::new()), "it is there");
    assert_eq!(lost(&mut redis, saved.next()), (0, String::new()), "nothing was lost: it never was");
    cmd("SAVE").exec(&mut redis).unwrap();
    let gone = publish(&mut redis, &scope, 2);
    server.crash_and_restart();
    let mut redis = server.connect();
    assert_eq!(lost(&mut redis, saved), (0, String::new()), "this one is still there");
    for _ in 0..2 {
        assert_eq!(lost(&mut redis, gone), (1, format!("{saved}+")));
    }
    let next = publish(&mut redis, &scope, 1);
    assert!(next.generation > gone.generation && next.offset == 1, "{next} behind {gone}");
    assert_eq!(lost(&mut redis, Position::new(saved.generation - 1, 1)), (0, format!("{saved}+")), "nobody knows it");

    // A whole generation is lost: what is left ends before it, an hour ago.
    let ago = next.generation - (3_600 << 16);
    cmd("HSET").arg(Keyspace::default().meta(&scope)).arg("g").arg(ago).arg("e").arg("").exec(&mut redis).unwrap();
    // The stream is deleted: its entries are of this second, and the next generation may be of this second too.
    cmd("DEL").arg(Keyspace::default().stream(&scope)).exec(&mut redis).unwrap();
    cmd("SAVE").exec(&mut redis).unwrap();
    server.crash_and_restart();
    let mut redis = server.connect();
    let gone = publish(&mut redis, &scope, 1);
    server.crash_and_restart();
    let mut redis = server.connect();
    assert_eq!(lost(&mut redis, gone), (1, format!("{ago}-1+")));

    let refusal = call::<u8>(&mut redis, Function::LOST, &scope, &["7"]).unwrap_err().to_string();
    assert!(refusal.contains("a position such as 7-42"), "{refusal}");
}

fn info(redis: &mut Connection, field: &str) -> String {
    let text: String = cmd("INFO").arg("replication").query(redis).unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned()
}

fn follow(replica: &mut Connection, primary: &RedisServer) {
    cmd("REPLICAOF").arg("127.0.0.1").arg(primary.port()).exec(replica).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while info(replica, "master_link_status:") != "up" {
        assert!(Instant::now() < deadline, "the replica did not follow");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn promote(replica: &mut Connection) {
    cmd("REPLICAOF").arg("NO").arg("ONE").exec(replica).unwrap();
}

/// A counter that is fenced by run_id fails here: the old primary returns with writes that its successor never
/// received, and both have counted on from the same offset.
#[test]
fn failover_there_and_back_with_writes_on_both_sides_repeats_no_position() {
    let (a, mut on_a) = server();
    let b = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let mut on_b = b.connect();
    cmd("CONFIG").arg("SET").arg("repl-diskless-sync-delay").arg(0).exec(&mut on_a).unwrap();
    let scope = scope("user:7");
    let common = publish(&mut on_a, &scope, 3);
    follow(&mut on_b, &a);
    let refusal = try_publish(&mut on_b, &scope, 1).unwrap_err().to_string();
    assert!(refusal.contains("ReadOnly") || refusal.contains("READONLY"), "{refusal}");

    promote(&mut on_b);
    let lost = publish(&mut on_a, &scope, 2); // A does not know yet that B is promoted
    let on_second = publish(&mut on_b, &scope, 2);
    follow(&mut on_a, &b);
    promote(&mut on_a);
    let back = publish(&mut on_a, &scope, 1);

    // When the replica was attached, A got a new id too: both sides begin a generation above the same one, at once.
    assert!(common.generation < lost.generation);
    assert!(common.generation < on_second.generation);
    assert_ne!(lost.generation, on_second.generation);
    assert!(on_second.generation < back.generation);
    let kept = read(&mut on_a, &scope, &common.to_string(), "9");
    assert_eq!(kept.earlier, [common, on_second], "the generation of {lost} is not listed: a gap");
    assert_eq!(kept.offsets(), [1, 2, 1], "all that is owed behind {common}");
}

/// Both sides would use `old + 1`.
#[test]
fn both_sides_of_a_failover_differ_when_the_clock_is_not_past_the_old_generation() {
    let (a, mut on_a) = server();
    let b = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let mut on_b = b.connect();
    cmd("CONFIG").arg("SET").arg("repl-diskless-sync-delay").arg(0).exec(&mut on_a).unwrap();
    let scope = scope("nothing:7");
    let first = publish(&mut on_a, &scope, 1);
    let ahead = first.generation + (3_600 << 16);
    cmd("HSET").arg(Keyspace::default().meta(&scope)).arg("g").arg(ahead).exec(&mut on_a).unwrap();
    follow(&mut on_b, &a);
    promote(&mut on_b);
    let (first, second) = (publish(&mut on_a, &scope, 1), publish(&mut on_b, &scope, 1));
    assert!(first.generation > ahead);
    assert!(second.generation > ahead);
    assert_ne!(first, second);
}

#[test]
fn a_scope_erased_and_used_again_repeats_no_position() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    let mut seen = HashSet::new();
    for round in 0..5 {
        assert!(seen.insert(publish(&mut redis, &scope, 1)), "a position was handed out twice");
        match round % 3 {
            0 => cmd("FLUSHALL").exec(&mut redis).unwrap(),
            // The stream alone remains, and would refuse ids below its last one.
            1 => cmd("DEL").arg(keys.meta(&scope)).exec(&mut redis).unwrap(),
            _ => cmd("DEL").arg(keys.stream(&scope)).exec(&mut redis).unwrap(),
        }
    }
}

/// The library's memory of begun generations is lost with the library.
#[test]
fn a_scope_erased_together_with_the_library_repeats_no_position() {
    let (_server, mut redis) = server();
    let scope = scope("user:7");
    let mut seen = HashSet::new();
    for _ in 0..20 {
        assert!(seen.insert(publish(&mut redis, &scope, 1)), "a position was handed out twice");
        cmd("FLUSHALL").exec(&mut redis).unwrap();
        load(&mut redis);
        let (at, deadline) = (clock_ms(&mut redis), Instant::now() + Duration::from_secs(30));
        while clock_ms(&mut redis) == at {
            assert!(Instant::now() < deadline, "Redis' clock stands still");
        }
    }
}

fn clock_ms(redis: &mut Connection) -> u64 {
    let (seconds, micros): (u64, u64) = cmd("TIME").query(redis).unwrap();
    seconds * 1_000 + micros / 1_000
}

/// The metadata has expired on both sides of a failover, and the streams end in a generation that is ahead of the
/// clock.
#[test]
fn both_sides_differ_when_only_the_stream_is_left_of_a_scope() {
    let (a, mut on_a) = server();
    let b = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let mut on_b = b.connect();
    cmd("CONFIG").arg("SET").arg("repl-diskless-sync-delay").arg(0).exec(&mut on_a).unwrap();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    cmd("XADD").arg(keys.stream(&scope)).arg("200000000000000-7").arg("t").arg("0").exec(&mut on_a).unwrap();
    follow(&mut on_b, &a);
    promote(&mut on_b);
    let (first, second) = (publish(&mut on_a, &scope, 1), publish(&mut on_b, &scope, 1));
    assert!(first.generation > 200_000_000_000_000 && second.generation > 200_000_000_000_000);
    assert_ne!(first, second);
}

#[test]
fn a_stream_without_metadata_is_continued_above_its_last_id() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    // As after a restore of half a backup. It is far in the future, so that the clock alone does not help.
    cmd("XADD").arg(keys.stream(&scope)).arg("8007199254740992-7").arg("t").arg("0").exec(&mut redis).unwrap();
    assert!(publish(&mut redis, &scope, 1).generation > 8_007_199_254_740_992);
}

#[test]
fn reading_does_not_begin_a_scope_and_opening_does() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    let nothing: Value = call(&mut redis, Function::READ, &scope, &["", "9"]).unwrap();
    assert_eq!(nothing, Value::Nil);
    let (top, earlier, entries, more): (String, Vec<String>, Vec<Value>, u8) =
        call(&mut redis, Function::OPEN, &scope, &["", "9"]).unwrap();
    assert_eq!((earlier.len(), entries.len(), more), (0, 0, 0));
    let top: Position = top.parse().unwrap();
    assert_eq!(top.offset, 0);
    assert_eq!(read(&mut redis, &scope, "", "0").top, top);
    assert_eq!(publish(&mut redis, &scope, 1), top.next(), "what is published next is owed behind the top");
    let ttl: i64 = cmd("PTTL").arg(keys.meta(&scope)).query(&mut redis).unwrap();
    assert!(ttl > 0, "a scope nobody ever uses goes away");
}

fn length(redis: &mut Connection, scope: &Scope) -> u64 {
    cmd("XLEN").arg(Keyspace::default().stream(scope)).query(redis).unwrap()
}

#[test]
fn a_small_family_keeps_exactly_its_number_of_entries_after_each_call() {
    let (_server, mut redis) = server();
    let scope = scope("room:1");
    for count in [1, 1, 50, 7, 64, 1] {
        let before = length(&mut redis, &scope);
        let last = publish(&mut redis, &scope, count).offset;
        assert_eq!(length(&mut redis, &scope), (before + count as u64).min(10), "behind a call of {count}");
        let kept = read(&mut redis, &scope, "1-0", "1000").offsets();
        assert_eq!(kept, (last.saturating_sub(10) + 1..=last).collect::<Vec<_>>(), "the newest of them");
    }
    // The message that is stored last is not the last one of the call.
    for ids in [["a", "b", "a"], ["c", "d", "b"], ["a", "b", "c"]] {
        publish_once(&mut redis, &scope, &ids).unwrap();
        assert_eq!(length(&mut redis, &scope), 10, "behind {ids:?}");
    }
    assert_eq!(read(&mut redis, &scope, "", "0").top.offset, 128, "trimming does not count");
}

#[test]
fn a_family_of_more_than_200_entries_keeps_about_that_many() {
    let (_server, mut redis) = server();
    let shape = |name: &str| FamilyShape { name: name.into(), keyed: true };
    let families = [(shape("user"), 200), (shape("room"), 201)];
    let library = Library::new(families.iter().map(|(shape, entries)| (shape, TTL_MS, *entries)));
    cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(library.source()).exec(&mut redis).unwrap();
    let (small, large) = (scope("user:1"), scope("room:1"));
    let mut most = 0;
    for call in 1..=20 {
        publish(&mut redis, &small, 33);
        publish(&mut redis, &large, 33);
        assert_eq!(length(&mut redis, &small), (call * 33).min(200), "behind call {call}");
        most = most.max(length(&mut redis, &large));
    }
    assert!((202..=301).contains(&most), "{most} entries: 201, and less than one of Redis' nodes more");
}

#[test]
fn a_family_without_history_has_positions_too() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("nothing:1"), Keyspace::default());
    assert_eq!(publish(&mut redis, &scope, 2).offset, 2);
    assert_eq!(publish(&mut redis, &scope, 1).offset, 3);
    let exists: bool = cmd("EXISTS").arg(keys.stream(&scope)).query(&mut redis).unwrap();
    assert!(!exists);
    let ttl: i64 = cmd("PTTL").arg(keys.meta(&scope)).query(&mut redis).unwrap();
    assert!(ttl > 0);
}

#[test]
fn keys_outlive_their_messages_and_metadata_outlives_the_stream() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("system"), Keyspace::default());
    publish(&mut redis, &scope, 1);
    let ttl = |redis: &mut Connection, key: String| -> u64 { cmd("PTTL").arg(key).query(redis).unwrap() };
    let (stream, meta) = (ttl(&mut redis, keys.stream(&scope)), ttl(&mut redis, keys.meta(&scope)));
    assert!((TTL_MS..=TTL_MS * 9 / 8).contains(&stream), "{stream}");
    assert!(meta > stream + 6 * 24 * 60 * 60 * 1_000, "{meta}");
    // Upkeep is not due: the expiry is not changed.
    cmd("PERSIST").arg(keys.stream(&scope)).exec(&mut redis).unwrap();
    publish(&mut redis, &scope, 1);
    let unset: i64 = cmd("PTTL").arg(keys.stream(&scope)).query(&mut redis).unwrap();
    assert_eq!(unset, -1);
    // Upkeep is due, or its time is too far ahead to be true (the clock was set back): the expiry is set.
    for due in ["1", "99999999999999"] {
        cmd("HSET").arg(keys.meta(&scope)).arg("d").arg(due).exec(&mut redis).unwrap();
        publish(&mut redis, &scope, 1);
        assert!(ttl(&mut redis, keys.stream(&scope)) <= TTL_MS * 9 / 8);
        cmd("PERSIST").arg(keys.stream(&scope)).exec(&mut redis).unwrap();
    }
}

#[test]
fn each_message_expires_by_its_own_time() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    let top = publish(&mut redis, &scope, 1);
    let now = read(&mut redis, &scope, &Position::new(top.generation, 0).to_string(), "1").entries[0].1;
    // Five messages that were stored over a minute ago, as if newer messages had kept the stream alive.
    let generation = top.generation + 1;
    for offset in 1..=5 {
        let mut add = cmd("XADD");
        add.arg(keys.stream(&scope)).arg(Position::new(generation, offset).to_string());
        add.arg("t").arg(now - TTL_MS - 1).arg("c").arg("old").arg("m").arg(MESSAGE).exec(&mut redis).unwrap();
    }
    let mut meta = cmd("HSET");
    meta.arg(keys.meta(&scope)).arg("g").arg(generation).arg("o").arg(5);
    meta.arg("d").arg(0).arg("k").arg(format!("{}:{generation}-3", now - TTL_MS - 1)).exec(&mut redis).unwrap();
    let after = Position::new(generation, 0).to_string();
    assert_eq!(read(&mut redis, &scope, &after, "2").offsets(), [0u64; 0], "past their time");

    // The next publish runs upkeep: it removes the messages that the mark covers, except the one at the mark itself.
    publish(&mut redis, &scope, 1);
    let left: Vec<Value> = cmd("XRANGE").arg(keys.stream(&scope)).arg("-").arg("+").query(&mut redis).unwrap();
    assert_eq!(left.len(), 4, "3, 4, 5 and the new one");
    let kept = read(&mut redis, &scope, &after, "2");
    assert_eq!((kept.offsets(), kept.more), (vec![6], false), "pages of expired entries are passed over");
}

#[test]
fn an_answer_is_bounded_in_bytes() {
    let (_server, mut redis) = server();
    let scope = scope("user:7");
    let big = format!("{{{}}}", " ".repeat(600_000));
    let args = ["", big.as_str()].repeat(4);
    let top: String = call(&mut redis, Function::RELAY, &scope, &args).unwrap();
    let after = Position::new(top.parse::<Position>().unwrap().generation, 0);
    let kept = read(&mut redis, &scope, &after.to_string(), "9");
    assert_eq!((kept.offsets(), kept.more), (vec![1, 2], true));
    let kept = read(&mut redis, &scope, &kept.entries[1].0, "18446744073709551615");
    assert_eq!((kept.offsets(), kept.more), (vec![3, 4], false), "as many as there are may be asked for");
}

/// Clients name any position; those that were never given out are answered like others.
#[test]
fn a_read_after_any_position_is_answered() {
    const MAX: u64 = u64::MAX;
    let (_server, mut redis) = server();
    let scope = scope("room:7");
    let top = publish(&mut redis, &scope, 3);
    let (own, all) = (top.generation, vec![1, 2, 3]);
    let above_64_bits = "18446744073709551616";
    let cases = [
        (format!("{MAX}-{MAX}"), vec![]),
        (format!("{MAX}-0"), vec![]),
        (format!("{}-{MAX}", MAX - 1), vec![]),
        (format!("0-{MAX}"), all.clone()),
        (format!("0-{above_64_bits}"), all.clone()),
        (format!("{}-{MAX}", own - 1), all.clone()),
        (format!("{own}-{MAX}"), vec![]),
        (format!("{own}-{}", 1u64 << 53), vec![]),
        (format!("000000000000000000{own}-0000000000000000000001"), vec![2, 3]),
        (format!("{above_64_bits}-0"), vec![]),
        (format!("{0}{0}-{0}{0}", above_64_bits), vec![]),
        ("0-0".to_owned(), all),
    ];
    for (after, offsets) in &cases {
        let kept = read(&mut redis, &scope, after, "9");
        assert_eq!((&kept.offsets(), kept.top, kept.more), (offsets, top, false), "{after}");
    }
    // Another program has added the highest id of all. It is the last one of a fetch.
    let highest = format!("{MAX}-{MAX}");
    let stream = Keyspace::default().stream(&scope);
    cmd("XADD").arg(&stream).arg(&highest).arg(&["x", "y"]).exec(&mut redis).unwrap();
    for after in [&cases[0].0, &cases[3].0] {
        let kept = read(&mut redis, &scope, after, "9");
        assert_eq!((kept.offsets().len(), kept.more), (if *after == highest { 0 } else { 3 }, false), "{after}");
    }
}

/// The COUNT of each XRANGE within one read, as MONITOR shows it.
fn fetched(server: &RedisServer, redis: &mut Connection, scope: &Scope, entries_max: &str) -> Vec<u64> {
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port())).expect("the server runs");
    monitor.write_all(b"MONITOR\r\n").expect("it takes commands");
    let mut lines = BufReader::new(monitor).lines().map(|line| line.expect("it answers"));
    assert_eq!(lines.next().as_deref(), Some("+OK"));
    read(redis, scope, "1-0", entries_max);
    cmd("ECHO").arg("the end").exec(redis).expect("the server runs");
    let within = lines.take_while(|line| !line.contains("the end"));
    let count = |line: String| line.split('"').nth(11).and_then(|count| count.parse().ok());
    within.filter(|line| line.contains("\"XRANGE\"")).map(|line| count(line).expect("COUNT and a number")).collect()
}

#[test]
fn a_read_fetches_little_more_than_it_answers() {
    let (server, mut redis) = server();
    let large = scope("user:large");
    let message = format!(r#"{{"payload":"{}"}}"#, "x".repeat(1024 * 1024));
    for _ in 0..12 {
        call::<String>(&mut redis, Function::RELAY, &large, &["", &message]).unwrap();
    }
    assert_eq!(fetched(&server, &mut redis, &large, "512"), [4], "512 of these would stop Redis for seconds");
    let middling = scope("user:middling");
    let message = format!(r#"{{"payload":"{}"}}"#, "x".repeat(100 * 1024));
    for _ in 0..40 {
        call::<String>(&mut redis, Function::RELAY, &middling, &["", &message]).unwrap();
    }
    assert_eq!(fetched(&server, &mut redis, &middling, "512"), [4, 8], "eleven fill an answer");
    let small = scope("user:small");
    for _ in 0..12 {
        publish(&mut redis, &small, 50);
    }
    assert_eq!(fetched(&server, &mut redis, &small, "512"), [4, 32, 256, 221], "few rounds for many small ones");
    assert_eq!(fetched(&server, &mut redis, &small, "2"), [3]);
}

#[test]
fn a_full_redis_refuses_before_anything_is_published() {
    let (server, mut redis) = server();
    let scope = scope("user:7");
    let before = publish(&mut redis, &scope, 1);
    let mut listener = server.connect();
    let mut listener = listener.as_pubsub();
    listener.subscribe(Keyspace::default().channel(&scope)).unwrap();
    let limit = |redis: &mut Connection, bytes: u64| {
        cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(redis).unwrap();
    };
    limit(&mut redis, 1_000);
    let refusal = try_publish(&mut redis, &scope, 1).unwrap_err();
    assert_eq!(refusal.code(), Some("OOM"), "{refusal}");
    assert_eq!(read(&mut redis, &scope, "", "0").top, before, "it reads and has not counted");
    let word = ["tidegate:probe:gw-1", "word"];
    cmd("FCALL").arg(Function::PROBE.name).arg(0).arg(&word).exec(&mut redis).expect("it still delivers");
    limit(&mut redis, 0);
    let after = publish(&mut redis, &scope, 1);
    assert_eq!(after, before.next());
    let received = listener.get_message().unwrap();
    let first = Envelope::parse(received.get_payload_bytes()).unwrap().first;
    assert_eq!(first, after, "the first thing heard is the first thing stored");
}

/// Publishes one message for each id. The answer for each has its position, and whether its id was known.
fn publish_once(redis: &mut Connection, scope: &Scope, ids: &[&str]) -> redis::RedisResult<Vec<(Position, bool)>> {
    let call = PublishCall::new(&Keyspace::default(), scope, true);
    let items = ids.iter().map(|id| PublishItem { topic: "topic", message: MESSAGE.as_bytes(), id: Some(id) });
    let answer = publish_call(redis, &call, items)?;
    Ok(call.read(ids.len(), &answer, part).expect("it is answered in its shape"))
}

#[test]
fn a_known_id_is_neither_stored_nor_published_and_answers_with_the_stored_position() {
    let (server, mut redis) = server();
    for name in ["user:7", "nothing:7"] {
        let scope = scope(name);
        let mut listener = server.connect();
        let mut listener = listener.as_pubsub();
        listener.subscribe(Keyspace::default().channel(&scope)).unwrap();
        let received = |listener: &mut redis::PubSub<'_>| {
            let received = listener.get_message().unwrap();
            Envelope::parse(received.get_payload_bytes()).unwrap().items().map(|item| item.unwrap().0.offset).collect()
        };

        let first = publish_once(&mut redis, &scope, &["a"]).unwrap()[0];
        assert!(!first.1, "{name}");
        let at = |offset| Position::new(first.0.generation, offset);
        // A known id, a new one, the same one twice in one batch, and two messages without an id.
        let mixed = publish_once(&mut redis, &scope, &["a", "b", "b", "", ""]).unwrap();
        assert_eq!(mixed, [(at(1), true), (at(2), false), (at(2), true), (at(3), false), (at(4), false)], "{name}");
        assert_eq!(publish_once(&mut redis, &scope, &["b", "a"]).unwrap(), [(at(2), true), (at(1), true)], "{name}");
        assert_eq!(publish(&mut redis, &scope, 1), at(5), "offsets have no hole: {name}");
        let received: Vec<Vec<u64>> = (0..3).map(|_| received(&mut listener)).collect();
        assert_eq!(received, [vec![1], vec![2, 3, 4], vec![5]], "{name}");
        assert_eq!(read(&mut redis, &scope, "", "0").top, at(5), "{name}");
    }
    let kept = read(&mut redis, &scope("user:7"), "1-0", "9");
    assert_eq!(kept.offsets(), [1, 2, 3, 4, 5]);
    // The same id in another scope is another id.
    assert!(!publish_once(&mut redis, &scope("user:8"), &["a"]).unwrap()[0].1);
}

#[test]
fn ids_expire_and_are_lost_with_their_messages() {
    let (mut server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    let first = publish_once(&mut redis, &scope, &["a"]).unwrap()[0].0;
    let ids = keys.ids(&scope);
    let held: Vec<String> =
        ids.iter().filter(|key| cmd("EXISTS").arg(*key).query(&mut redis).unwrap()).cloned().collect();
    let [held] = held.as_slice() else { panic!("one of the two holds it: {held:?}") };
    let left: i64 = cmd("PTTL").arg(held).query(&mut redis).unwrap();
    let window = i64::try_from(keyspace::ID_WINDOW_MS).unwrap();
    assert!(left > window - 10_000 && left <= 2 * window, "{left} ms");
    // The other window is searched as well.
    let other = ids.iter().find(|key| *key != held).unwrap();
    cmd("RENAME").arg(held).arg(other).exec(&mut redis).unwrap();
    assert_eq!(publish_once(&mut redis, &scope, &["a"]).unwrap(), [(first, true)]);
    cmd("UNLINK").arg(other).exec(&mut redis).unwrap();
    assert_eq!(publish_once(&mut redis, &scope, &["a"]).unwrap(), [(first.next(), false)], "its time is over");

    // An id that a crash lost may be published again, and an id that was saved may not.
    publish_once(&mut redis, &scope, &["kept"]).unwrap();
    cmd("SAVE").exec(&mut redis).unwrap();
    let lost = publish_once(&mut redis, &scope, &["lost"]).unwrap()[0].0;
    server.crash_and_restart();
    let mut redis = server.connect();
    let again = publish_once(&mut redis, &scope, &["kept", "lost"]).unwrap();
    assert_eq!(again[0], (Position::new(first.generation, 3), true));
    assert!(!again[1].1 && again[1].0.generation > lost.generation, "{again:?} after {lost}");
    cmd("FLUSHALL").exec(&mut redis).unwrap();
    assert!(!publish_once(&mut redis, &scope, &["kept"]).unwrap()[0].1);
}
