//! Calls and messages that the functions refuse with a sentence.

use super::*;

#[test]
fn wrong_arguments_are_answered_with_an_explanation() {
    let (_server, mut redis) = server();
    let (stream, meta) = ("tidegate:{acme/user:7}:stream", "tidegate:{acme/user:7}:meta");
    let many = ["", MESSAGE].repeat(65);
    let long = "x".repeat(257);
    let heavy = format!("{{{}}}", " ".repeat(16 * 1024 * 1024));
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&[], &["", MESSAGE], "2 keys are needed"),
        (&[stream], &["", MESSAGE], "2 keys are needed"),
        (&["somewhere", meta], &["", MESSAGE], "the first key is PREFIX:{TENANT/FAMILY:ID}:stream"),
        (&["tidegate:{acme/user:a b}:stream", meta], &["", MESSAGE], "the first key is"),
        (&["tidegate:{user:7}:stream", meta], &["", MESSAGE], "the first key is"),
        (&[stream, "tidegate:{acme/user:8}:meta"], &["", MESSAGE], "it is tidegate:{acme/user:7}:meta"),
        (
            &["t:{a/cat:7}:stream", "t:{a/cat:7}:meta"],
            &["", MESSAGE],
            "no channel family \"cat\"; the gateways know user,",
        ),
        (&["t:{a/user}:stream", "t:{a/user}:meta"], &["", MESSAGE], "the family \"user\" has ids"),
        (&["t:{a/user:}:stream", "t:{a/user:}:meta"], &["", MESSAGE], "the family \"user\" has ids"),
        (&["t:{a/system:1}:stream", "t:{a/system:1}:meta"], &["", MESSAGE], "the family \"system\" has no ids"),
        (&[stream, meta], &[], "TOPIC MESSAGE pairs"),
        (&[stream, meta], &[MESSAGE], "TOPIC MESSAGE pairs"),
        (&[stream, meta], &many, "TOPIC MESSAGE pairs, 1 to 64"),
        (&[stream, meta], &["", MESSAGE, "a:", MESSAGE], "topic 2 is not"),
        (&[stream, meta], &[":a", MESSAGE], "topic 1 is not"),
        (&[stream, meta], &["a::b", MESSAGE], "topic 1 is not"),
        (&[stream, meta], &["a b", MESSAGE], "topic 1 is not"),
        (&[stream, meta], &["a\nb", MESSAGE], "topic 1 is not"),
        (&[stream, meta], &["a*", MESSAGE], "topic 1 is not"),
        (&[stream, meta], &[&long, MESSAGE], "topic 1 is not"),
        (&[stream, meta], &["", "hello"], "message 1 is neither"),
        (&[stream, meta], &["", ""], "message 1 is neither"),
        (&[stream, meta], &["", &heavy], "at most 16777216 bytes together"),
    ];
    for (keys, args, sentence) in cases {
        let mut command = cmd("FCALL");
        command.arg(Function::RELAY.name).arg(keys.len()).arg(*keys).arg(*args);
        let error = command.query::<Value>(&mut redis).expect_err(sentence).to_string();
        assert!(error.contains(sentence), "{error:?} does not say {sentence:?}");
    }
    let (even, odd) = ("tidegate:{acme/user:7}:ids:0", "tidegate:{acme/user:7}:ids:1");
    let long = "x".repeat(301);
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&[stream, meta], &["", MESSAGE, "a"], "4 keys are needed"),
        (&[stream, meta, odd, even], &["", MESSAGE, "a"], "the third and fourth keys belong to the first"),
        (&[stream, meta, even, odd], &["", MESSAGE], "TOPIC MESSAGE ID triples, 1 to 64"),
        (&[stream, meta, even, odd], &["", MESSAGE, "a", "", "hello", "b"], "message 2 is neither"),
        (&[stream, meta, even, odd], &["", MESSAGE, "a", "", MESSAGE, &long], "id 2 has more"),
    ];
    for (keys, args, sentence) in cases {
        let mut command = cmd("FCALL");
        command.arg(Function::PUBLISH_ONCE.name).arg(keys.len()).arg(*keys).arg(*args);
        let error = command.query::<Value>(&mut redis).expect_err(sentence).to_string();
        assert!(error.contains(sentence), "{error:?} does not say {sentence:?}");
    }
    for args in [&["x", "9"][..], &["1-2", "many"], &["1-2", "-1"], &["1-2"], &["1-2", "3", "4"]] {
        let error = call::<Value>(&mut redis, Function::READ, &scope("user:7"), args).unwrap_err().to_string();
        assert!(error.contains("AFTER ENTRIES_MAX"), "{args:?}: {error}");
    }
    let size: u64 = cmd("DBSIZE").query(&mut redis).unwrap();
    assert_eq!(size, 0, "what is refused leaves nothing behind");
}

/// Bytes that a publisher may send, each with what is wrong with them.
const SLIPS: [(&[u8], &str); 39] = [
    (b"{}", "has no type"),
    (b"{\"payload\":1}", "has no type"),
    (b"{\"type\":null}", "has no type"),
    (b"{\"type\":7}", "has no type"),
    (b"{\"type\":\"\"}", "has no type"),
    (b"{\"type\":\"two words\"}", "has no type"),
    (b"{\"type\":\"gap\"}", "which control frames use"),
    (b"{\"type\":\"joined\"}", "which control frames use"),
    (b"{\"type\":\"t\",\"data\":1}", "has an unknown field \"data\""),
    (b"{\"type\":\"t\",\"event\":\"t\"}", "has an unknown field"),
    (b"{\"type\":\"t\"", "is not JSON"),
    (b"{'type':'t'}", "is not JSON"),
    (b"{\"type\":\"t\"} {\"type\":\"t\"}", "is not JSON"),
    (b"{\"type\":\"t\",\"payload\":NaN}", "is not JSON"),
    (b"{\"type\":\"t\",\"payload\":[-Infinity]}", "is not JSON"),
    (b"{\"type\":\"t\",\"payload\":0x10}", "is not JSON"),
    (b"{\"type\":\"t\",\"payload\":01}", "is not JSON"),
    (b"{\"type\":\"t\",\"payload\":[1.]}", "begins or ends with a point"),
    (b"{\"type\":\"t\",\"payload\":1.e5}", "begins or ends with a point"),
    (b"{\"type\":\"t\",\"payload\":\"a\nb\"}", "has a control character"),
    (b"{\"type\":\"t\"}\0", "NUL"),
    (b"{\"type\":\"t\"}\0\"type\":\"t\"} \"", "NUL"),
    (b"{\"type\":\"t\",\"payload\":\"a\0b\"}", "NUL"),
    (b"\x01\x00\x0e{\"type\":\"t\"}\0x", "NUL"),
    (b"{\"type\":\"t\",\"payload\":\"Jos\xe9\"}", "not UTF-8"),
    (b"{\"type\":\"t\",\"payload\":\"\xed\xa0\x80\"}", "not UTF-8"),
    (b"{\"type\":\"t\",\"payload\":\"\xc3\xa9\x80\"}", "not UTF-8"),
    (b"{\"type\":\"t\",\"payload\":1,\"payload\":2}", "has a field twice"),
    (b"{\"type\":\"t\",\"payload\":1,\"\\u0070ayload\":2}", "has a field twice"),
    (b"{\"type\":\"t\",\"timestamp\":\"2026-11-20T12:00:00\"}", "RFC 3339"),
    (b"{\"type\":\"t\",\"timestamp\":\"2026-02-30T12:00:00Z\"}", "RFC 3339"),
    (b"{\"type\":\"t\",\"timestamp\":\"2026-11-20T24:00:00Z\"}", "RFC 3339"),
    (b"{\"type\":\"t\",\"timestamp\":\"2016-12-31T23:58:60Z\"}", "RFC 3339"),
    (b"{\"type\":\"t\",\"timestamp\":\"2016-12-31T23:59:61Z\"}", "RFC 3339"),
    (b"{\"type\":\"t\",\"timestamp\":1795176000}", "RFC 3339"),
    (b"{\"type\":\"t\",\"correlation_id\":7}", "correlation_id"),
    (b"{\"type\":\"t\",\"correlation_id\":{}}", "correlation_id"),
    (b"\x01\x00\x0b{\"type\":\"t\"}", "is not JSON"),
    (b"\x01\xff\xff{\"type\":\"t\"}", "is no binary message"),
];

const ACCEPTED: [&str; 16] = [
    r#"{"type":"t"}"#,
    r#" {"type":"t"}"#,
    "{\n\t\"type\": \"t\",\r\n \"payload\": {\"type\": [\"payload\"]}\n}\n",
    r#"{"type":"op.applied:x_1-2","payload":null,"timestamp":null,"correlation_id":null}"#,
    r#"{"type":"t","payload":{"payload":1,"type":2,"text":"a 3. b \" c: \"d\" \\"}}"#,
    r#"{"type":"t","payload":[1.5,-0,1e5,1E-5,0.25,-1.0e+2,true,"\u00e9\ud83d\ude00"]}"#,
    r#"{"type":"t","payload":"José 日本 🎉 \u0000"}"#,
    r#"{"type":"t","timestamp":"2024-02-29T23:59:59.123456789+02:30"}"#,
    r#"{"type":"t","timestamp":"2000-02-29T00:00:00Z","correlation_id":"payload"}"#,
    r#"{"type":"t","timestamp":"2016-12-31T23:59:60Z"}"#,
    r#"{"type":"t","timestamp":"2016-12-31T18:44:60.5-05:15"}"#,
    r#"{"\u0074ype":"t"}"#,
    "\u{1}\u{0}\u{c}{\"type\":\"t\"}\u{0}\u{7f}",
    r#"{"payload":[[[[{"a":{"b":{}}}]]]],"type":"t"}"#,
    r#"{"type":"t","payload":"\\"}"#,
    r#"{"type":"t","payload":".","correlation_id":"1."}"#,
];

/// A publisher in any language hears what is wrong with its message: what the function accepts, a gateway delivers.
#[test]
fn a_message_that_no_gateway_would_deliver_is_refused_with_a_sentence() {
    let (_server, mut redis) = server();
    let scope = scope("user:7");
    let keys = [Keyspace::default().stream(&scope), Keyspace::default().meta(&scope)];
    let mut publish = |message: &[u8]| -> redis::RedisResult<String> {
        cmd("FCALL").arg(Function::PUBLISH.name).arg(2).arg(&keys).arg("").arg(message).query(&mut redis)
    };
    for message in ACCEPTED.map(str::trim_start) {
        assert!(wire::Message::parse(message.as_bytes()).is_ok(), "{message}");
        assert!(publish(message.as_bytes()).is_ok(), "{message}: {:?}", publish(message.as_bytes()));
    }
    for (message, why) in SLIPS {
        let text = String::from_utf8_lossy(message);
        assert!(wire::Message::parse(message).is_err(), "a gateway delivers {text}");
        let refused = publish(message).expect_err(&text).to_string();
        assert!(refused.contains("message 1") && refused.contains(why), "{text}: {refused}");
    }
    // The one message that a gateway delivers and the function refuses.
    let half = br#"{"type":"t","payload":"\ud83d"}"#;
    assert!(wire::Message::parse(half).is_ok());
    assert!(publish(half).unwrap_err().to_string().contains("is not JSON"));
    let nested = |levels: usize| format!(r#"{{"type":"t","payload":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(publish(nested(keyspace::DEPTH_MAX - 1).as_bytes()).is_ok());
    assert!(publish(nested(keyspace::DEPTH_MAX).as_bytes()).is_err());
    assert!(publish(nested(100_000).as_bytes()).is_err());

    // Any bytes in place of some others: what is accepted can be delivered.
    let (mut seed, mut accepted, mut last) = (7u64, 0, String::new());
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    const BYTES: &[u8] = b"\"\\{}[]:,.0123456789eE+-tfnu \n\t\x00\x1f\x7f\x80\xa0\xc3\xe0\xed\xf0\xf4\xffZT_";
    for _ in 0..20_000 {
        let mut message = ACCEPTED[random(ACCEPTED.len())].trim_start().as_bytes().to_vec();
        for _ in 0..=random(2) {
            let at = random(message.len());
            match random(3) {
                0 => message[at] = BYTES[random(BYTES.len())],
                1 => message.insert(at, BYTES[random(BYTES.len())]),
                _ => drop(message.remove(at)),
            }
        }
        match publish(&message) {
            Ok(_) => {
                accepted += 1;
                let read = wire::Message::parse(&message);
                assert!(read.is_ok(), "{:?}: {read:?}", String::from_utf8_lossy(&message));
            }
            Err(error) => last = format!("{:?}: {error}", String::from_utf8_lossy(&message)),
        }
    }
    assert!(accepted > 200, "{accepted} of 20,000; {last}");
}
