//! A scope without a message: how long it is kept, and what a reader that only listens costs.

use redis::{Connection, RedisResult, cmd};

use super::*;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const WEEK_MS: i64 = 7 * 24 * HOUR_MS;

fn open(redis: &mut Connection, scope: &Scope) -> Position {
    let (top, ..): (String, Vec<String>, Vec<EntryRow>, u8) =
        call(redis, Function::OPEN, scope, &["", "0"]).expect("it is readable");
    top.parse().expect("a position")
}

/// How long the metadata is kept, in ms; -1: for ever, -2: there is none.
fn kept_ms(redis: &mut Connection, scope: &Scope) -> i64 {
    cmd("PTTL").arg(Keyspace::default().meta(scope)).query(redis).unwrap()
}

fn keep(redis: &mut Connection, scope: &Scope, ms: i64) {
    let is_set: bool = cmd("PEXPIRE").arg(Keyspace::default().meta(scope)).arg(ms).query(redis).unwrap();
    assert!(is_set, "{scope:?} has metadata");
}

fn is_an_hour(ms: i64) -> bool {
    (HOUR_MS - 60_000..=HOUR_MS).contains(&ms)
}

#[test]
fn a_scope_is_kept_for_an_hour_until_its_first_message() {
    let (_server, mut redis) = server();
    for name in ["user:1", "room:1", "nothing:1", "system"] {
        let scope = scope(name);
        let begun = open(&mut redis, &scope);
        let ms = kept_ms(&mut redis, &scope);
        assert!(is_an_hour(ms), "{name} is kept for {ms} ms");
        // Opening keeps it for another hour; reading keeps nothing.
        keep(&mut redis, &scope, 120_000);
        assert_eq!(read(&mut redis, &scope, "", "0").top, begun);
        assert!(kept_ms(&mut redis, &scope) <= 120_000, "{name}");
        assert_eq!(open(&mut redis, &scope), begun);
        assert!(is_an_hour(kept_ms(&mut redis, &scope)), "{name}");
        // What is kept for longer stays so.
        keep(&mut redis, &scope, 2 * HOUR_MS);
        open(&mut redis, &scope);
        assert!(kept_ms(&mut redis, &scope) > HOUR_MS, "{name}");

        keep(&mut redis, &scope, 120_000);
        assert_eq!(publish(&mut redis, &scope, 1), begun.next(), "{name} continues");
        assert!(kept_ms(&mut redis, &scope) > WEEK_MS, "{name} has a message");
        keep(&mut redis, &scope, 120_000);
        open(&mut redis, &scope);
        assert!(kept_ms(&mut redis, &scope) <= 120_000, "{name} has a message: it lives by its own times");
    }
}

/// A client that leaves before the first message keeps its position. Within the hour the message follows it; later the
/// position is of a generation that nobody knows any more.
#[test]
fn a_position_before_the_first_message_is_continued_or_unknown() {
    let (_server, mut redis) = server();
    let scope = scope("user:1");
    let left_at = open(&mut redis, &scope);
    publish(&mut redis, &scope, 1);
    let missed = read(&mut redis, &scope, &left_at.to_string(), "9");
    assert_eq!((missed.top, missed.offsets()), (left_at.next(), vec![1]));

    let other = super::scope("user:2");
    let left_at = open(&mut redis, &other);
    keep(&mut redis, &other, 1);
    while kept_ms(&mut redis, &other) != -2 {}
    let published = publish(&mut redis, &other, 1);
    let missed = read(&mut redis, &other, &left_at.to_string(), "9");
    assert!(published.generation > left_at.generation, "{published} after {left_at}");
    assert_eq!((missed.top, missed.earlier), (published, vec![]), "{left_at} is not known");
}

/// A publish that is refused after it began the scope leaves a scope without a message.
#[test]
fn a_refused_first_publish_leaves_nothing_for_ever() {
    let (_server, mut redis) = server();
    let scope = scope("user:1");
    cmd("SET").arg(Keyspace::default().stream(&scope)).arg("foreign").exec(&mut redis).unwrap();
    let refusal: RedisResult<Position> = try_publish(&mut redis, &scope, 1);
    assert_eq!(refusal.unwrap_err().code(), Some("BADSCOPE"));
    let ms = kept_ms(&mut redis, &scope);
    assert!(is_an_hour(ms), "kept for {ms} ms");
}
