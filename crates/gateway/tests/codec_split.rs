//! However a stream is cut into reads, the same must come out of it.

use std::ops::ControlFlow;

use tidegate_gateway::codec::{Codec, Violation};

const LIMIT: usize = 70_000;

/// Everything that was taken, and why no more.
type Outcome = (Vec<String>, Result<(), Violation>);

/// Feeds `stream` in pieces that end at `cuts`.
fn outcome(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Outcome {
    let mut codec = Codec::new(LIMIT);
    let mut taken = Vec::new();
    let mut start = 0;
    for end in cuts.into_iter().chain([stream.len()]) {
        let mut piece = stream[start..end].to_vec();
        start = end;
        let fed = codec.feed(&mut piece, |input, _| {
            taken.push(format!("{input:?}"));
            ControlFlow::Continue(())
        });
        if fed.is_err() {
            return (taken, fed);
        }
    }
    (taken, Ok(()))
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    // A mask whose bytes all differ, so that turning it wrongly shows.
    let key = [0x11, 0x2f, 0x83, 0xd4];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=65_535 => {
            frame.push(0xfe);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Streams of a few frames each, with how many inputs each must give and whether it must be refused.
fn corpus() -> Vec<(&'static str, Vec<u8>, usize, bool)> {
    let text = "aé€😀 κόσμε".as_bytes();
    let long = vec![b'x'; 300];
    let whole =
        [frame(0x81, text), frame(0x82, b"\x00\xff"), frame(0x81, b""), frame(0x8a, b"pong"), frame(0x82, &long)];
    let fragmented = [
        frame(0x01, &text[..2]),
        frame(0x89, b"between"),
        frame(0x00, &text[2..5]),
        frame(0x00, b""),
        frame(0x8a, b""),
        frame(0x80, &text[5..]),
        frame(0x02, &long),
        frame(0x89, &[0xff; 125]),
        frame(0x80, &long),
        frame(0x81, b"end"),
    ];
    let begun = frame(0x01, "€".as_bytes());
    let then = |frames: &[&[u8]]| [&begun[..], &frames.concat()].concat();
    vec![
        ("whole messages", whole.concat(), 5, false),
        ("fragments and control frames", fragmented.concat(), 6, false),
        (
            "a close with a reason",
            [frame(0x81, b"last"), frame(0x88, b"\x03\xe8bye"), frame(0x81, b"late")].concat(),
            2,
            false,
        ),
        ("a close inside a message", then(&[&frame(0x88, b""), &frame(0x80, b"late")]), 1, false),
        ("a bare close", frame(0x88, b""), 1, false),
        ("a reserved bit", then(&[&frame(0x90, b"x")]), 0, true),
        ("a reserved opcode", [frame(0x81, b"x"), frame(0x87, b"x")].concat(), 1, true),
        ("no mask", [frame(0x81, b"x"), b"\x81\x01x".to_vec()].concat(), 1, true),
        ("a long control frame", frame(0x89, &[0; 126]), 0, true),
        ("a fragmented control frame", frame(0x09, b"x"), 0, true),
        (
            "a length of two bytes too many",
            [frame(0x82, b"x"), b"\x82\xfe\x00\x01\0\0\0\0x".to_vec()].concat(),
            1,
            true,
        ),
        ("a length of eight bytes too many", b"\x82\xff\0\0\0\0\0\0\x01\0\0\0\0\0".to_vec(), 0, true),
        ("a length above 2^63", b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec(), 0, true),
        ("too big in one", frame(0x82, &vec![0; LIMIT + 1])[..20].to_vec(), 0, true),
        ("too big in two", [frame(0x02, &long), frame(0x80, &vec![0; LIMIT - 299])[..20].to_vec()].concat(), 0, true),
        ("nothing to continue", [frame(0x81, b"x"), frame(0x80, b"x")].concat(), 1, true),
        ("a message inside another", then(&[&frame(0x89, b"x"), &frame(0x81, b"x")]), 1, true),
        ("text cut inside a character", [frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat(), 0, true),
        ("a surrogate in the middle", frame(0x81, b"abc\xed\xa0\x80def"), 0, true),
        ("an impossible byte in a fragment", then(&[&frame(0x00, b"\xf0\x9f"), &frame(0x00, b"\x92\xf5")]), 0, true),
        ("a close of one byte", frame(0x88, b"\x03"), 0, true),
        ("a close code that must not travel", frame(0x88, b"\x03\xee"), 0, true),
        ("a close reason that is not text", frame(0x88, b"\x03\xe8\xc3\x28"), 0, true),
    ]
}

#[test]
fn every_cut_gives_the_same() {
    for (name, stream, taken, refused) in corpus() {
        let expected = outcome(&stream, []);
        assert_eq!((expected.0.len(), expected.1.is_err()), (taken, refused), "{name}: {expected:?}");
        for first in 0..=stream.len() {
            assert_eq!(outcome(&stream, [first]), expected, "{name}, cut at {first}");
        }
        assert_eq!(outcome(&stream, 1..stream.len()), expected, "{name}, byte by byte");
    }
}

/// Two cuts put the end of one read and the beginning of another into the same header or character.
#[test]
fn every_pair_of_cuts_gives_the_same() {
    for (name, stream, ..) in corpus().into_iter().filter(|(_, stream, ..)| stream.len() < 80) {
        let expected = outcome(&stream, []);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(outcome(&stream, [first, second]), expected, "{name}, cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn a_message_longer_than_a_read() {
    let text = "0123456€😀".repeat(5_000);
    let text = &text[..LIMIT];
    let stream = [frame(0x81, text.as_bytes()), frame(0x89, b"after")].concat();
    for read in [1, 7, 4_096, 65_536] {
        let (taken, fed) = outcome(&stream, (1..stream.len()).filter(|end| end % read == 0));
        assert_eq!(fed, Ok(()));
        assert_eq!(taken, [format!("Text({text:?})"), "Ping([97, 102, 116, 101, 114])".into()]);
    }
}
