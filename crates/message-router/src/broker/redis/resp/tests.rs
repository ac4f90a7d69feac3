//! Answers as Redis writes them, whole and in pieces.

use super::*;

fn decode_all(chunks: &[&[u8]]) -> Result<Vec<PushFrame>, BadResp> {
    let (mut decoder, mut received) = (Decoder::default(), Vec::new());
    for chunk in chunks {
        decoder.buffer.extend_from_slice(chunk);
        while let Some(next) = decoder.next()? {
            received.push(next);
        }
    }
    assert!(received.is_empty() || decoder.buffer.is_empty(), "left over: {:?}", decoder.buffer);
    Ok(received)
}

fn text(text: &'static str) -> Value {
    Value::Text(Bytes::from_static(text.as_bytes()))
}

/// A message and a confirmation of each kind, plain and sharded, the shape of an answer to HELLO, an error and each rare type.
const CONVERSATION: &[u8] = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n\
    >3\r\n$9\r\nsubscribe\r\n$3\r\na:b\r\n:1\r\n\
    >3\r\n$7\r\nmessage\r\n$3\r\na:b\r\n$6\r\nx\r\ny\r\n\r\n\
    >3\r\n$7\r\nmessage\r\n$0\r\n\r\n$0\r\n\r\n\
    >3\r\n$11\r\nunsubscribe\r\n$3\r\na:b\r\n:0\r\n\
    >3\r\n$10\r\nssubscribe\r\n$3\r\na:b\r\n:1\r\n\
    >3\r\n$8\r\nsmessage\r\n$3\r\na:b\r\n$2\r\nhi\r\n\
    >3\r\n$12\r\nsunsubscribe\r\n$3\r\na:b\r\n:0\r\n\
    -NOPERM no\r\n\
    >2\r\n+invalidate\r\n_\r\n\
    |1\r\n+ttl\r\n:9\r\n~7\r\n#t\r\n,1.5\r\n(123456789012345678901\r\n=7\r\ntxt:abc\r\n$-1\r\n*-1\r\n!3\r\nERR\r\n";

fn conversation() -> Vec<PushFrame> {
    let channel = || Bytes::from_static(b"a:b");
    let message =
        |channel, payload: &'static [u8]| PushFrame::Message { channel, payload: Bytes::from_static(payload) };
    vec![
        PushFrame::Other(Value::Map(vec![
            text("server"),
            text("redis"),
            text("proto"),
            Value::Number(3),
            text("modules"),
            Value::List(vec![]),
        ])),
        PushFrame::Subscribed { channel: channel() },
        message(channel(), b"x\r\ny\r\n"),
        message(Bytes::new(), b""),
        PushFrame::Unsubscribed { channel: channel() },
        PushFrame::Subscribed { channel: channel() },
        message(channel(), b"hi"),
        PushFrame::Unsubscribed { channel: channel() },
        PushFrame::Refused("NOPERM no".into()),
        PushFrame::Other(Value::Push(vec![text("invalidate"), Value::Null])),
        PushFrame::Other(Value::List(vec![
            Value::Boolean(true),
            text("1.5"),
            text("123456789012345678901"),
            text("abc"),
            Value::Null,
            Value::Null,
            Value::Error(Bytes::from_static(b"ERR")),
        ])),
    ]
}

#[test]
fn the_conversation_reads_the_same_however_it_is_cut() {
    assert_eq!(decode_all(&[CONVERSATION]).unwrap(), conversation());
    for disconnected in 0..=CONVERSATION.len() {
        let (head, tail) = CONVERSATION.split_at(disconnected);
        assert_eq!(decode_all(&[head, tail]).unwrap(), conversation(), "cut at {disconnected}");
    }
    let bytes: Vec<&[u8]> = CONVERSATION.chunks(1).collect();
    assert_eq!(decode_all(&bytes).unwrap(), conversation());
}

#[test]
fn a_message_is_a_slice_of_what_was_read() {
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(b">3\r\n$7\r\nmessage\r\n$3\r\na:b\r\n$2\r\nhi\r\n");
    let range = decoder.buffer.as_ptr_range();
    let Ok(Some(PushFrame::Message { channel, payload })) = decoder.next() else { panic!("a message was written") };
    assert!(range.contains(&channel.as_ptr()), "the channel was copied");
    assert!(range.contains(&payload.as_ptr()), "the payload was copied");
}

#[test]
fn maps_answer_by_key() {
    let PushFrame::Other(hello) = &conversation()[0] else { panic!("the first is an answer") };
    assert_eq!(hello.get("server").and_then(Value::as_text), Some("redis"));
    assert_eq!(hello.get("redis"), None, "a value is not a key");
    assert_eq!(Value::Null.get("server"), None);
}

#[test]
fn what_is_not_resp_is_refused() {
    let deep = b"*1\r\n".repeat(DEPTH_MAX + 2);
    let long = [b"+".as_slice(), &b"x".repeat(LINE_BYTES_MAX + 2)].concat();
    let cases: [(&str, &[u8]); 13] = [
        ("no type", b"hello\r\n"),
        ("no line feed", b"+ok\rx"),
        ("length not a number", b"$x\r\n"),
        ("length negative", b"$-2\r\n"),
        ("length over the limit", b"$99999999999\r\n"),
        ("text longer than said", b"$2\r\nabc\r\n"),
        ("count over the limit", b"*4097\r\n"),
        ("count negative", b"%-1\r\n"),
        ("nested too deep", &deep),
        ("line over the limit", &long),
        ("message without channel", b">3\r\n$7\r\nmessage\r\n:1\r\n"),
        ("message text longer than said", b">3\r\n$7\r\nmessage\r\n$1\r\nabcd"),
        ("message length over the limit", b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$99999999999999\r\n"),
    ];
    for (name, bytes) in cases {
        assert!(decode_all(&[bytes]).is_err(), "{name}");
    }
}

#[test]
fn many_values_in_one_are_refused_however_they_nest() {
    let row = [b"*64\r\n".as_slice(), &b":1\r\n".repeat(64)].concat();
    let table = [b"*64\r\n".as_slice(), &row.repeat(64)].concat();
    assert_eq!(decode_all(&[&table]), Err(BadResp("too many values in one")));
}

#[test]
fn a_payload_that_is_too_long_is_dropped_and_what_follows_is_read() {
    let bytes = PAYLOAD_BYTES_MAX + 1;
    let mut pushed = format!(">3\r\n$7\r\nmessage\r\n$3\r\na:b\r\n${bytes}\r\n").into_bytes();
    pushed.resize(pushed.len() + bytes, b'>');
    pushed.extend_from_slice(b"\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
    for piece in [1 << 12, (1 << 20) + 1, pushed.len()] {
        let (mut decoder, mut received, mut largest) = (Decoder::default(), Vec::new(), 0);
        for chunk in pushed.chunks(piece) {
            decoder.buffer.extend_from_slice(chunk);
            while let Some(next) = decoder.next().unwrap() {
                received.push(next);
            }
            largest = largest.max(decoder.buffer.len());
        }
        assert!(largest < piece.min(1 << 12), "nothing of it is kept: {largest}");
        let [channel, other, payload] = ["a:b", "a", "x"].map(|text| Bytes::from_static(text.as_bytes()));
        let expected = [PushFrame::TooLong { channel, bytes }, PushFrame::Message { channel: other, payload }];
        assert_eq!(received, expected);
    }
}
