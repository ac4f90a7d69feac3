//! One test for each rule of RFC 6455 that needs more than one header to see.

use std::ops::ControlFlow;

use wire::Close;

use super::message::{BYTES_PER_FRAGMENT, FRAGMENTS_FREE};
use super::{Codec, DecoderState, Input, Unfinished, Violation};

/// Small, so that a test can go over it; not below 65,536, which the longest form of a length needs.
const LIMIT: usize = 100_000;

/// What was taken, written down so that it outlives the scratch buffer.
fn note(input: Input<'_>) -> String {
    match input {
        Input::Text(text) => format!("text {text}"),
        Input::Binary(bytes) => format!("binary {bytes:x?}"),
        Input::Ping(bytes) => format!("ping {}", bytes.escape_ascii()),
        Input::Pong(bytes) => format!("pong {}", bytes.escape_ascii()),
        Input::Close(None) => "close".into(),
        Input::Close(Some(frame)) => format!("close {} {}", frame.code, frame.reason),
    }
}

fn feed(codec: &mut Codec, bytes: &[u8]) -> (Vec<String>, Result<(), Violation>) {
    let mut taken = Vec::new();
    let outcome = codec.feed(&mut bytes.to_vec(), |input, _| {
        taken.push(note(input));
        ControlFlow::Continue(())
    });
    (taken, outcome)
}

/// What a new connection takes from `bytes`, which it must accept.
fn accepted(bytes: &[u8]) -> Vec<String> {
    let (taken, outcome) = feed(&mut Codec::new(LIMIT), bytes);
    assert_eq!(outcome, Ok(()));
    taken
}

/// Why a new connection refuses `bytes`, none of which it may take. Without its last byte it must not refuse them: what
/// is wrong is seen at the byte that makes it so.
fn refused(bytes: &[u8]) -> Violation {
    let (_, before) = feed(&mut Codec::new(LIMIT), &bytes[..bytes.len() - 1]);
    assert_eq!(before, Ok(()), "refused before its last byte");
    let (taken, outcome) = feed(&mut Codec::new(LIMIT), bytes);
    assert_eq!(taken, [""; 0]);
    outcome.expect_err("must be refused")
}

/// A frame under the mask 0, which leaves its payload readable.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

// === Messages ===

/// §5.7: the only masked example of the RFC.
#[test]
fn the_rfcs_masked_hello() {
    assert_eq!(accepted(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), ["text Hello"]);
}

#[test]
fn text_binary_and_nothing_at_all() {
    assert_eq!(accepted(b"\x81\x80\0\0\0\0"), ["text "]);
    assert_eq!(accepted(b"\x82\x80\x01\x02\x03\x04"), ["binary []"]);
    assert_eq!(accepted(b"\x82\x82\x01\x02\x03\x04\x01\xfd"), ["binary [0, ff]"]);
}

#[test]
fn all_three_lengths() {
    for size in [125, 126, 127, 65_535, 65_536, LIMIT] {
        let text = "x".repeat(size);
        assert_eq!(accepted(&frame(0x81, text.as_bytes())), [format!("text {text}")]);
    }
}

#[test]
fn many_frames_in_one_read_keep_their_order() {
    let bytes = [frame(0x81, b"a"), frame(0x89, b"b"), frame(0x82, b""), frame(0x8a, b"c"), frame(0x81, b"d")].concat();
    assert_eq!(accepted(&bytes), ["text a", "ping b", "binary []", "pong c", "text d"]);
}

/// §5.4, with control frames between the fragments as §5.5 allows.
#[test]
fn fragments_become_one_message() {
    let bytes = [
        frame(0x01, b"a"),
        frame(0x89, b"1"),
        frame(0x00, b""),
        frame(0x8a, b"2"),
        frame(0x00, b"b"),
        frame(0x80, b"c"),
        frame(0x02, b""),
        frame(0x80, b"\x09"),
    ];
    assert_eq!(accepted(&bytes.concat()), ["ping 1", "pong 2", "text abc", "binary [9]"]);
}

#[test]
fn fragments_must_follow_one_another() {
    assert_eq!(refused(b"\x80\x80\0\0\0\0"), Violation::NothingToContinue);
    assert_eq!(refused(b"\x00\x85\0\0\0\0"), Violation::NothingToContinue);
    assert_eq!(refused(&[frame(0x01, b"a"), frame(0x81, b"")].concat()), Violation::MessageUnfinished);
    assert_eq!(refused(&[frame(0x02, b""), frame(0x02, b"")].concat()), Violation::MessageUnfinished);
    // A message that has ended cannot be continued either.
    let (taken, outcome) = feed(&mut Codec::new(LIMIT), &[frame(0x81, b"a"), frame(0x80, b"b")].concat());
    assert_eq!((taken, outcome), (vec!["text a".into()], Err(Violation::NothingToContinue)));
}

// === Limits ===

#[test]
fn a_message_above_the_limit_is_refused_at_its_header() {
    let too_big = Violation::TooBig { message_bytes_max: LIMIT };
    let mut header = frame(0x81, &vec![b'x'; LIMIT + 1]);
    header.truncate(14);
    assert_eq!(refused(&header), too_big);
    assert_eq!(refused(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"), too_big);
    assert_eq!(too_big.close(), Close::TooBig);
}

#[test]
fn the_limit_is_for_all_fragments_together() {
    let half = vec![b'x'; LIMIT / 2];
    let begun = [frame(0x01, &half), frame(0x00, &half)].concat();
    assert_eq!(accepted(&[&begun[..], &frame(0x80, b"")].concat()).len(), 1);
    assert_eq!(refused(&[&begun[..], b"\x80\x81\0\0\0\0"].concat()), Violation::TooBig { message_bytes_max: LIMIT });
    // Control frames have their own.
    assert_eq!(accepted(&[&begun[..], &frame(0x89, &[b'p'; 125])].concat()).len(), 1);
}

#[test]
fn a_message_has_a_bounded_number_of_fragments() {
    let mut bytes = frame(0x01, b"");
    for _ in 2..FRAGMENTS_FREE {
        bytes.extend(frame(0x00, b""));
    }
    assert_eq!(accepted(&[&bytes[..], &frame(0x80, b"end")].concat()), ["text end"]);
    bytes.extend(frame(0x00, b""));
    assert_eq!(refused(&[&bytes[..], &frame(0x80, b"")].concat()), Violation::TooManyFragments);
    assert_eq!(Violation::TooManyFragments.close(), Close::TooBig);
}

#[test]
fn bytes_pay_for_fragments_and_empty_ones_do_not() {
    // Autobahn's 9.3.1 and 9.4.1: 4 MiB in fragments of 64 bytes.
    let mut codec = Codec::new(4 << 20);
    assert_eq!(feed(&mut codec, &frame(0x02, &[7; 64])).1, Ok(()));
    let fragment = frame(0x00, &[7; 64]);
    for _ in 2..(4 << 20) / 64 {
        assert_eq!(feed(&mut codec, &fragment).1, Ok(()));
    }
    let mut whole = 0;
    let last = codec.feed(&mut frame(0x80, &[7; 64]), |input, _| {
        whole = if let Input::Binary(bytes) = input { bytes.len() } else { 0 };
        ControlFlow::Continue(())
    });
    assert_eq!((last, whole), (Ok(()), 4 << 20));
    // As many bytes as pay for ten frames, and then empty ones.
    let mut codec = Codec::new(4 << 20);
    assert_eq!(feed(&mut codec, &frame(0x02, &[7; 10 * BYTES_PER_FRAGMENT])).1, Ok(()));
    for _ in 1..FRAGMENTS_FREE + 10 {
        assert_eq!(feed(&mut codec, &frame(0x00, b"")).1, Ok(()));
    }
    assert_eq!(feed(&mut codec, &frame(0x00, b"")).1, Err(Violation::TooManyFragments));
}

#[test]
fn what_has_begun_and_not_ended() {
    let mut codec = Codec::new(LIMIT);
    let mut after = |bytes: &[u8]| {
        assert_eq!(feed(&mut codec, bytes).1, Ok(()));
        codec.unfinished().map(|Unfinished { number, bytes }| (number, bytes))
    };
    assert_eq!(after(b""), None);
    assert_eq!(after(&frame(0x81, b"whole")), None);
    assert_eq!(after(b"\x01"), Some((1, 0)), "the first byte of a header");
    assert_eq!(after(&frame(0x01, b"ab")[1..]), Some((1, 2)), "a fragment");
    // Control frames between its fragments do not make it another message.
    assert_eq!(after(&[&frame(0x8a, b"")[..], &frame(0x89, b"x")].concat()), Some((1, 2)));
    assert_eq!(after(&frame(0x8a, b"pong")[..8]), Some((1, 4)));
    assert_eq!(after(&frame(0x8a, b"pong")[8..]), Some((1, 8)), "the rest of a control frame was held too");
    assert_eq!(after(&frame(0x80, b"")), None);
    assert_eq!(after(&frame(0x89, b"ping")[..3]), Some((2, 0)));
    // Each ping outside of a message is another.
    assert_eq!(after(&[&frame(0x89, b"ping")[3..], &frame(0x89, b"ping")[..3]].concat()), Some((3, 0)));
}

#[test]
fn a_message_may_raise_the_limit_for_those_behind_it() {
    let mut codec = Codec::new(4);
    let mut bytes = [frame(0x81, b"four"), frame(0x81, b"more than four")].concat();
    let mut taken = 0;
    let outcome = codec.feed(&mut bytes, |_, message_bytes_max| {
        (taken, *message_bytes_max) = (taken + 1, 64);
        ControlFlow::Continue(())
    });
    assert_eq!((outcome, taken), (Ok(()), 2));
    assert_eq!(
        feed(&mut Codec::new(4), &frame(0x81, b"more than four")).1,
        Err(Violation::TooBig { message_bytes_max: 4 })
    );
}

#[test]
fn memory_grows_with_what_came_and_never_with_a_claim() {
    let mut codec = Codec::new(1 << 30);
    let (_, outcome) = feed(&mut codec, b"\x82\xff\0\0\0\0\x3f\xff\xff\xff\0\0\0\0");
    assert_eq!((outcome, codec.held.capacity()), (Ok(()), 0));
    for received in 1..10_000 {
        assert_eq!(feed(&mut codec, b"x").1, Ok(()));
        assert_eq!(codec.held.len(), received);
        assert!(codec.held.capacity() <= 2 * received);
    }
}

#[test]
fn memory_is_bounded_by_the_limit() {
    let mut codec = Codec::new(1000);
    assert_eq!(feed(&mut codec, &frame(0x02, b"x")).1, Ok(()));
    for received in 1..=1000 {
        assert_eq!(codec.held.len(), received);
        assert!(codec.held.capacity() <= 1000 + 125);
        // Most of a ping, then its end.
        let ping = frame(0x89, &[b'p'; 125]);
        assert_eq!(feed(&mut codec, &ping[..130]).1, Ok(()));
        assert!(codec.held.capacity() <= 1000 + 125);
        assert_eq!(feed(&mut codec, &ping[130..]).0.len(), 1);
        if received < 1000 {
            assert_eq!(feed(&mut codec, &frame(0x00, b"x")).1, Ok(()));
        }
    }
    assert_eq!(feed(&mut codec, &frame(0x80, b"")).0.len(), 1);
}

// === Memory while idle ===

#[test]
fn nothing_is_kept_between_messages() {
    let mut codec = Codec::new(LIMIT);
    let bytes = [frame(0x01, b"ab"), frame(0x89, b"ping"), frame(0x80, b"cd"), frame(0x89, b"ping")].concat();
    for byte in &bytes {
        assert_eq!(feed(&mut codec, &[*byte]).1, Ok(()));
        let idle = codec.message.is_none() && matches!(codec.stage, DecoderState::Header(_));
        assert!(!idle || codec.held.capacity() == 0, "an idle connection holds {:?}", codec.held);
    }
    assert!(matches!(codec.stage, DecoderState::Header(_)));
}

#[test]
fn a_frame_that_is_whole_is_not_copied() {
    let mut codec = Codec::new(LIMIT);
    for first in [0x81, 0x82, 0x89, 0x8a, 0x88] {
        let mut scratch = frame(first, b"\x03\xe8 and more");
        if first == 0x81 {
            scratch[6..8].copy_from_slice(b"ok");
        }
        let range = scratch.as_ptr_range();
        let outcome = codec.feed(&mut scratch, |input, _| {
            let taken = match input {
                Input::Text(text) => text.as_ptr(),
                Input::Binary(bytes) | Input::Ping(bytes) | Input::Pong(bytes) => bytes.as_ptr(),
                Input::Close(frame) => frame.expect("it has a code").reason.as_ptr(),
            };
            assert!(range.contains(&taken), "opcode {first:#x} was copied");
            ControlFlow::Continue(())
        });
        assert_eq!((outcome, codec.held.capacity()), (Ok(()), 0));
    }
}

// === Control frames ===

#[test]
fn control_frames_are_short_and_whole() {
    assert_eq!(accepted(&frame(0x89, &[b'p'; 125])), [format!("ping {}", "p".repeat(125))]);
    assert_eq!(refused(b"\x89\xfe"), Violation::ControlTooLong);
    assert_eq!(refused(b"\x09"), Violation::ControlFragmented);
    assert_eq!(refused(b"\x08"), Violation::ControlFragmented);
}

#[test]
fn nothing_is_taken_behind_a_close() {
    let mut codec = Codec::new(LIMIT);
    let bytes =
        [frame(0x01, b"half a message"), frame(0x88, b"\x03\xe8bye"), frame(0x81, b"late"), vec![0xff]].concat();
    assert_eq!(feed(&mut codec, &bytes), (vec!["close 1000 bye".into()], Ok(())));
    assert_eq!(feed(&mut codec, &frame(0x81, b"later")), (vec![], Ok(())));
    assert_eq!(codec.held.capacity(), 0);
}

#[test]
fn a_close_says_why() {
    assert_eq!(accepted(b"\x88\x80\0\0\0\0"), ["close"]);
    assert_eq!(accepted(b"\x88\x82\0\0\0\0\x13\x87"), ["close 4999 "]);
    assert_eq!(refused(b"\x88\x81\0\0\0\0\x03"), Violation::CloseCodeTruncated);
    assert_eq!(refused(b"\x88\x82\0\0\0\0\x03\xed"), Violation::CloseCode(1005));
    assert_eq!(refused(b"\x88\x83\0\0\0\0\x03\xe8\xff"), Violation::NotUtf8);
}

#[test]
fn nothing_is_taken_behind_a_violation() {
    let mut codec = Codec::new(LIMIT);
    let bytes = [frame(0x81, b"good"), frame(0x83, b"bad"), frame(0x81, b"late")].concat();
    assert_eq!(feed(&mut codec, &bytes), (vec!["text good".into()], Err(Violation::ReservedOpcode(3))));
    assert_eq!(feed(&mut codec, &frame(0x81, b"later")), (vec![], Ok(())));
}

/// The client's close frame is what says that it has read why it is refused.
#[test]
fn behind_a_violation_only_a_close_is_taken() {
    let text_of_a_frame = [b"\xff"[..].to_vec(), frame(0x88, b"\x03\xe8")].concat();
    // The violation, and how many bytes of its last frame are still to come when it is seen.
    let cases = [
        ("too big", frame(0x82, &vec![b'x'; LIMIT + 1]), LIMIT + 1, Violation::TooBig { message_bytes_max: LIMIT }),
        ("not UTF-8", frame(0x81, &text_of_a_frame), text_of_a_frame.len() - 1, Violation::NotUtf8),
        ("no message", frame(0x80, b"xyz"), 3, Violation::NothingToContinue),
        ("a message in another", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1, Violation::MessageUnfinished),
    ];
    for (name, violating, rest, violation) in cases {
        let (seen, rest) = violating.split_at(violating.len() - rest);
        let behind = [rest, &frame(0x81, b"late"), &frame(0x89, b"ping"), &frame(0x88, b"\x03\xf1")].concat();
        for step in [1, 3, behind.len()] {
            let mut codec = Codec::new(LIMIT);
            assert_eq!(feed(&mut codec, seen), (vec![], Err(violation)), "{name}");
            let taken: Vec<_> = behind.chunks(step).map(|piece| feed(&mut codec, piece)).collect();
            assert!(taken.iter().all(|(_, outcome)| outcome.is_ok()), "{name}: told once");
            let taken: Vec<String> = taken.into_iter().flat_map(|(taken, _)| taken).collect();
            assert_eq!(taken, ["close 1009 "], "{name}, {step} at a time");
            assert!(codec.is_closed() && codec.held.capacity() == 0, "{name}");
        }
        // What came with it cannot be the answer to what is told of it.
        let mut codec = Codec::new(LIMIT);
        assert_eq!(feed(&mut codec, &[seen, &behind].concat()), (vec![], Err(violation)), "{name}");
        assert!(codec.is_closed(), "{name}");
        // Where a header is wrong nothing more is known.
        let mut codec = Codec::new(LIMIT);
        assert_eq!(feed(&mut codec, &[seen, rest].concat()), (vec![], Err(violation)), "{name}");
        assert!(!codec.is_closed(), "{name}");
        assert_eq!(feed(&mut codec, b"GET / HTTP/1.1"), (vec![], Ok(())), "{name}");
        assert!(codec.is_closed(), "{name}");
    }
    // Of a wrong header, and of a close frame that says nothing good, it is known at once.
    for violating in [frame(0x83, b""), frame(0x88, b"\x03")] {
        let mut codec = Codec::new(LIMIT);
        assert!(feed(&mut codec, &violating).1.is_err() && codec.is_closed());
    }
}

#[test]
fn a_break_is_final() {
    let mut codec = Codec::new(LIMIT);
    let mut bytes = [frame(0x81, b"a"), frame(0x81, b"b"), frame(0x81, b"c")].concat();
    let mut taken = 0;
    let outcome = codec.feed(&mut bytes, |_, _| {
        taken += 1;
        if taken == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((outcome, taken), (Ok(()), 2));
    assert_eq!(feed(&mut codec, &frame(0x81, b"d")), (vec![], Ok(())));
}

// === UTF-8 ===

/// §8.1. Autobahn's 6.4: with the message unfinished, what has come is refused at the byte that breaks it.
#[test]
fn text_is_refused_at_the_byte_that_breaks_it() {
    // In the only frame, whose length says that more is to come.
    assert_eq!(refused(b"\x81\x90\0\0\0\0abc\xf4\x90"), Violation::NotUtf8);
    // In a fragment, with more fragments to come.
    assert_eq!(refused(&[frame(0x01, "κόσμε".as_bytes()), frame(0x00, b"\xed\xa0")].concat()), Violation::NotUtf8);
    // By the first byte of a fragment that does not finish the character before.
    assert_eq!(refused(&[frame(0x01, b"\xe2\x82"), b"\x00\x85\0\0\0\0\x41".to_vec()].concat()), Violation::NotUtf8);
    assert_eq!(Violation::NotUtf8.close(), Close::InvalidUtf8);
}

#[test]
fn a_character_may_be_cut_by_fragments_and_reads() {
    let text = "aé€😀";
    for fragment in 1..=4 {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(fragment).collect();
        let mut bytes = frame(0x01, b"");
        for piece in pieces {
            bytes.extend([frame(0x00, piece), frame(0x89, b"\xff")].concat());
        }
        bytes.extend(frame(0x80, b""));
        assert_eq!(accepted(&bytes).last(), Some(&format!("text {text}")));
    }
}

#[test]
fn text_must_not_end_inside_a_character() {
    assert_eq!(refused(&frame(0x81, b"a\xe2\x82")), Violation::NotUtf8);
    assert_eq!(refused(&[frame(0x01, b"a\xe2\x82"), frame(0x80, b"")].concat()), Violation::NotUtf8);
    let mut codec = Codec::new(LIMIT);
    let bytes = frame(0x81, b"a\xe2\x82");
    let (split, last) = bytes.split_at(bytes.len() - 1);
    assert_eq!(feed(&mut codec, split).1, Ok(()));
    assert_eq!(feed(&mut codec, last).1, Err(Violation::NotUtf8));
}

#[test]
fn binary_may_be_anything() {
    assert_eq!(accepted(&[frame(0x02, b"\xff"), frame(0x80, b"\xc0")].concat()), ["binary [ff, c0]"]);
}
