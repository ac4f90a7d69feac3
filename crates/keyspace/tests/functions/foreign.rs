//! Keys that another program has written, and permissions that are missing: what a refused call says, and what it leaves.

use super::*;

fn refusal<T: std::fmt::Debug>(result: redis::RedisResult<T>) -> String {
    result.unwrap_err().to_string()
}

/// Only a key of another program is reported as one: nobody deletes a stream because of a missing permission.
#[test]
fn a_missing_permission_is_reported_as_what_it_is() {
    let (server, mut redis) = server();
    let scope = scope("user:7");
    let after = Position::new(publish(&mut redis, &scope, 1).generation, 0).to_string();
    let mut limited = server.connect();
    for denied in ["hmget", "xadd", "xrange"] {
        let user: [&str; 7] = ["SETUSER", denied, "on", ">secret", "~*", "&*", "+@all"];
        cmd("ACL").arg(&user).arg(format!("-{denied}")).exec(&mut redis).unwrap();
        cmd("AUTH").arg(denied).arg("secret").exec(&mut limited).unwrap();
        let refused = match denied {
            "xrange" => refusal(call::<Value>(&mut limited, Function::READ, &scope, &[&after, "9"])),
            _ => refusal(try_publish(&mut limited, &scope, 1)),
        };
        assert!(refused.contains("can't run this command"), "without {denied}: {refused}");
        assert!(!refused.contains("BADSCOPE"), "without {denied}: {refused}");
    }
    assert_eq!(length(&mut redis, &scope), 1);
}

/// A stream of another type, and streams with an entry above every id that this library gives out.
#[test]
fn a_stream_of_another_program_is_named() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    let (stream, meta) = (keys.stream(&scope), keys.meta(&scope));
    for foreign in [
        &["SET", &stream, "x"][..],
        &["XADD", &stream, "18446744073709551615-1", "x", "y"],
        &["XADD", &stream, "18446744073709551615-18446744073709551615", "x", "y"],
    ] {
        publish(&mut redis, &scope, 1);
        cmd("UNLINK").arg(&stream).exec(&mut redis).unwrap();
        cmd(foreign[0]).arg(&foreign[1..]).exec(&mut redis).unwrap();
        let refused = refusal(try_publish(&mut redis, &scope, 1));
        assert!(refused.contains("BADSCOPE") && refused.contains(&stream), "{foreign:?}: {refused}");
        cmd("UNLINK").arg(&[&stream, &meta]).exec(&mut redis).unwrap();
    }
}

/// A call is refused before it has written anything, however often it is repeated.
#[test]
fn ids_of_another_program_store_no_copies() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    for foreign in keys.ids(&scope) {
        // The scope is new, or had messages with ids now or long ago.
        for newest in ["", "0", "99999999"] {
            cmd("FLUSHALL").exec(&mut redis).unwrap();
            if !newest.is_empty() {
                publish(&mut redis, &scope, 1);
                cmd("HSET").arg(keys.meta(&scope)).arg(&["i", newest]).exec(&mut redis).unwrap();
            }
            let before = length(&mut redis, &scope);
            cmd("SET").arg(&foreign).arg("x").exec(&mut redis).unwrap();
            for _ in 0..2 {
                let refused = refusal(publish_once(&mut redis, &scope, &["a"]));
                assert!(refused.contains("BADSCOPE") && refused.contains(&foreign), "{newest:?}: {refused}");
            }
            assert_eq!(length(&mut redis, &scope), before, "{foreign} {newest:?}");
            assert_eq!(publish_once(&mut redis, &scope, &[""]).unwrap().len(), 1, "without ids the keys are not used");
        }
    }
}

/// A family without history has no stream: one of another program in its place is neither used nor removed.
#[test]
fn a_stream_of_another_program_in_a_family_without_history_is_left_alone() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("nothing:7"), Keyspace::default());
    let first = publish(&mut redis, &scope, 1);
    cmd("SET").arg(keys.stream(&scope)).arg("x").exec(&mut redis).unwrap();
    for offset in 2..4 {
        // Upkeep is due, and a mark has expired.
        cmd("HSET").arg(keys.meta(&scope)).arg(&["d", "0", "k", "1:1-1"]).exec(&mut redis).unwrap();
        let position = try_publish(&mut redis, &scope, 1);
        assert_eq!(position, Ok(Position::new(first.generation, offset)));
    }
    let kind: String = cmd("TYPE").arg(keys.stream(&scope)).query(&mut redis).unwrap();
    assert_eq!(kind, "string");
}

#[test]
fn a_scope_that_was_refused_at_once_ends_by_itself() {
    let (_server, mut redis) = server();
    let (scope, keys) = (scope("user:7"), Keyspace::default());
    cmd("SET").arg(keys.stream(&scope)).arg("x").exec(&mut redis).unwrap();
    assert!(refusal(try_publish(&mut redis, &scope, 1)).contains("BADSCOPE"));
    let ttl_ms: i64 = cmd("PTTL").arg(keys.meta(&scope)).query(&mut redis).unwrap();
    assert!(ttl_ms > 0, "{ttl_ms}");
}
