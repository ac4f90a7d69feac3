//! Random streams, whole and broken: our codec and tungstenite must take the same messages and refuse the same streams.
//!
//! Known differences, each provided for below:
//! - We refuse as early as the bytes allow, tungstenite when the frame or message is whole. So a stream that we refuse is
//!   ended for tungstenite with zeros until it has what it waits for.
//! - tungstenite takes lengths written in more bytes than they need, and so control frames with a long form of length.
//! - tungstenite refuses the close code 1014, which IANA registered after the RFC.
//! - tungstenite answers a close code that must not travel itself, and hands out a close frame with 1002 instead.
//! - tungstenite looks at a frame's size before its reserved bits, its mask and its place, and at a close's reason before
//!   its code. Either way it refuses.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use test_support::Random;
use tidegate_gateway::codec::{Codec, Input, Violation};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};
use wire::Close;

/// Small, so that random messages go over it; above what a length of two bytes can say, so that all three forms occur.
const LIMIT: usize = 66_000;
/// Streams without a fault, and as many again with one to three. About 2 s together in a debug build.
const STREAMS: u64 = 20_000;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// More may come.
    Open,
    /// By a close frame.
    Closed,
    Refused(Close),
}

#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Message>,
    end: End,
}

// === Random streams ===

/// A stream of frames, and where each begins.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    frames: Vec<usize>,
}

impl Stream {
    fn frame(&mut self, random: &mut Random, first: u8, payload: &[u8]) {
        self.frames.push(self.bytes.len());
        self.bytes.push(first);
        match payload.len() {
            short @ 0..=125 => self.bytes.push(0x80 | short as u8),
            medium @ 126..=65_535 => {
                self.bytes.push(0xfe);
                self.bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                self.bytes.push(0xff);
                self.bytes.extend((long as u64).to_be_bytes());
            }
        }
        let key = if random.one_in(4) { [0; 4] } else { (random.number() as u32).to_ne_bytes() };
        self.bytes.extend(key);
        self.bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn control(&mut self, random: &mut Random) {
        let size = if random.one_in(4) { 125 } else { random.below(20) };
        let (first, payload) = (*random.pick(&[0x89, 0x8a]), random.bytes(size));
        self.frame(random, first, &payload);
    }

    fn message(&mut self, random: &mut Random) {
        let size = match random.below(300) {
            0 => *random.pick(&[65_535, 65_536, LIMIT, LIMIT + 1]),
            1..=20 => *random.pick(&[125, 126, 127]),
            21..=40 => random.below(2_000),
            _ => random.below(24),
        };
        let (opcode, payload) = if random.one_in(3) { (2, random.bytes(size)) } else { (1, text(random, size)) };
        let mut rest = &payload[..];
        let mut first = opcode;
        while !random.one_in(3) {
            let piece = rest.split_off(..random.below(rest.len() + 1)).expect("it is within");
            self.frame(random, first, piece);
            first = 0;
            while random.one_in(4) {
                self.control(random);
            }
        }
        self.frame(random, 0x80 | first, rest);
    }

    fn close(&mut self, random: &mut Random) {
        let mut payload = Vec::new();
        if !random.one_in(4) {
            let code = *random.pick(&[1000, 1001, 1002, 1003, 1007, 1008, 1011, 1013, 3000, 3999, 4000, 4999]);
            payload.extend(u16::to_be_bytes(code));
            let size = random.below(124);
            payload.extend(text(random, size));
        }
        self.frame(random, 0x88, &payload);
    }

    /// Breaks something: mostly in the first bytes of a frame, where most rules are.
    fn damage(&mut self, random: &mut Random) {
        let at = if random.one_in(4) {
            random.below(self.bytes.len())
        } else {
            (*random.pick(&self.frames) + random.below(8)).min(self.bytes.len() - 1)
        };
        match random.below(6) {
            0..=2 => self.bytes[at] ^= 1_u8 << random.below(8),
            3 => self.bytes[at] = *random.pick(&[0, 1, 0x7e, 0x7f, 0x80, 0x88, 0xc0, 0xed, 0xf5, 0xfe, 0xff]),
            4 => drop(self.bytes.remove(at)),
            _ => self.bytes.insert(at, random.number() as u8),
        }
    }
}

/// UTF-8 of exactly `size` bytes, of all four lengths of character.
fn text(random: &mut Random, size: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < size {
        let bound = *random.pick(&[0x80, 0x800, 0x1_0000, 0x11_0000]);
        // None for a surrogate.
        if let Some(character) = char::from_u32(random.below(bound) as u32) {
            text.push(if text.len() + character.len_utf8() > size { 'x' } else { character });
        }
    }
    text.into_bytes()
}

/// One of the ways in which text is not UTF-8, or is cut.
fn broken_text(random: &mut Random) -> Vec<u8> {
    let bad = *random.pick::<&[u8]>(&[
        b"\x80",
        b"\xc0\xaf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5",
        b"\xff",
        b"\xe2\x82",
        b"\xf0\x9f\x92",
        b"\xc3",
    ]);
    let (before, behind) = (random.below(20), random.below(3));
    [text(random, before), bad.to_vec(), text(random, behind)].concat()
}

fn stream(random: &mut Random, faults: usize) -> Stream {
    let mut stream = Stream::default();
    for _ in 0..=random.below(5) {
        match random.below(4) {
            0 => stream.control(random),
            1 if faults > 0 && random.one_in(4) => {
                let (text, cut) = (broken_text(random), random.below(4));
                let (head, tail) = text.split_at(cut.min(text.len()));
                stream.frame(random, 0x01, head);
                stream.frame(random, 0x80, tail);
            }
            2 if faults > 0 && random.one_in(8) => {
                let (code, reason) = (random.number() as u16 % 5_200, broken_text(random));
                let reason = if random.one_in(2) { &reason[..0] } else { &reason[..] };
                stream.frame(random, 0x88, &[&code.to_be_bytes(), reason].concat());
            }
            _ => stream.message(random),
        }
    }
    if random.one_in(3) {
        stream.close(random);
    }
    if random.one_in(8) {
        // Behind a close, or one message more.
        stream.message(random);
    }
    for _ in 0..faults {
        stream.damage(random);
    }
    if random.one_in(8) {
        stream.bytes.truncate(random.below(stream.bytes.len() + 1));
    }
    stream
}

// === The two sides ===

/// Ours, fed in random pieces.
fn ours(bytes: &[u8], random: &mut Random) -> (Outcome, Option<Violation>) {
    let mut codec = Codec::new(LIMIT);
    let mut outcome = Outcome { messages: Vec::new(), end: End::Open };
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = piece(random).min(rest.len());
        let mut piece = rest[..size].to_vec();
        rest = &rest[size..];
        let fed = codec.feed(&mut piece, |input, _| {
            outcome.messages.push(match input {
                Input::Text(text) => Message::text(text),
                Input::Binary(bytes) => Message::binary(bytes.to_vec()),
                Input::Ping(bytes) => Message::Ping(bytes.to_vec().into()),
                Input::Pong(bytes) => Message::Pong(bytes.to_vec().into()),
                Input::Close(frame) => {
                    outcome.end = End::Closed;
                    Message::Close(frame.map(|frame| tokio_tungstenite::tungstenite::protocol::CloseFrame {
                        code: frame.code.into(),
                        reason: frame.reason.into(),
                    }))
                }
            });
            ControlFlow::Continue(())
        });
        if let Err(violation) = fed {
            outcome.end = End::Refused(violation.close());
            return (outcome, Some(violation));
        }
    }
    (outcome, None)
}

/// How much one read gives: often a byte or two, sometimes more than the stream has.
fn piece(random: &mut Random) -> usize {
    match random.below(3) {
        0 => 1 + random.below(3),
        1 => 1 + random.below(40),
        _ => 100_000,
    }
}

/// A socket: gives its bytes in random pieces, then nothing; what is written to it is gone.
struct Socket<'a> {
    bytes: &'a [u8],
    /// Zeros to give when the bytes are through.
    zeros: usize,
    random: &'a mut Random,
}

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            let size = self.zeros.min(into.len());
            into[..size].fill(0);
            self.zeros -= size;
            return if size == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(size) };
        }
        let size = piece(self.random).min(into.len()).min(self.bytes.len());
        into[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(bytes: &[u8], zeros: usize, random: &mut Random) -> Outcome {
    let config =
        WebSocketConfig::default().read_buffer_size(256).max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Socket { bytes, zeros, random }, Role::Server, Some(config));
    let mut messages = Vec::new();
    let end = loop {
        match socket.read() {
            // Its own words for a code that must not travel.
            Ok(Message::Close(Some(frame))) if frame.reason.as_str() == "Protocol violation" => {
                break End::Refused(Close::ProtocolError);
            }
            Ok(message) => messages.push(message),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break End::Open,
            Err(Error::ConnectionClosed) => break End::Closed,
            Err(Error::Protocol(_)) => break End::Refused(Close::ProtocolError),
            Err(Error::Utf8(_)) => break End::Refused(Close::InvalidUtf8),
            Err(Error::Capacity(_)) => break End::Refused(Close::TooBig),
            Err(other) => panic!("{other}"),
        }
    };
    Outcome { messages, end }
}

// === Comparing them ===

/// Panics unless the two agree about `bytes`, but for the known differences. Says how our side ended.
fn compare(bytes: &[u8], random: &mut Random, case: &str) -> String {
    let (ours, violation) = ours(bytes, random);
    let Some(violation) = violation else {
        let theirs = theirs(bytes, 0, random);
        let bad_gateway =
            matches!(ours.messages.last(), Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1014);
        if bad_gateway {
            assert_eq!(theirs.end, End::Refused(Close::ProtocolError), "{case}");
            assert_eq!(theirs.messages[..], ours.messages[..ours.messages.len() - 1], "{case}");
        } else {
            assert_eq!(ours, theirs, "{case}");
        }
        return format!("{:?}", ours.end);
    };

    // What the longest frame that passes can still wait for: its payload and the rest of its header.
    let theirs = theirs(bytes, LIMIT + 14, random);
    let same = theirs.messages.len().min(ours.messages.len());
    assert_eq!(theirs.messages[..same], ours.messages[..same], "{case}");
    if !matches!(violation, Violation::LengthNotMinimal | Violation::ControlTooLong) {
        assert_eq!(theirs.messages.len(), ours.messages.len(), "{case}: {violation}");
        let End::Refused(their_close) = theirs.end else { panic!("{case}: they take what we refuse: {violation}") };
        let agreed = match (violation.close(), their_close) {
            (a, b) if a == b => true,
            (Close::ProtocolError, Close::TooBig) => true,
            (Close::ProtocolError, Close::InvalidUtf8) => matches!(violation, Violation::CloseCode(_)),
            _ => false,
        };
        assert!(agreed, "{case}: {violation}, they say {their_close:?}");
    }
    let name = format!("{violation:?}");
    name.split([' ', '(']).next().expect("a split has a first part").into()
}

#[test]
fn agrees_with_tungstenite() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..2 * STREAMS {
        let mut random = Random::new(seed);
        let faults = if seed < STREAMS { 0 } else { 1 + random.below(3) };
        let stream = stream(&mut random, faults);
        let how = compare(&stream.bytes, &mut random, &format!("seed {seed}"));
        if faults == 0 {
            assert!(["Open", "Closed", "TooBig"].contains(&&*how), "seed {seed}: {how} without a fault");
        }
        *seen.entry(how).or_default() += 1;
    }
    println!("{seen:?}");
    // The streams are worth nothing if they do not get everywhere.
    for expected in [
        "Open",
        "Closed",
        "ReservedBits",
        "ReservedOpcode",
        "ControlFragmented",
        "ControlTooLong",
        "NotMasked",
        "LengthNotMinimal",
        "LengthTopBit",
        "NothingToContinue",
        "MessageUnfinished",
        "TooBig",
        "NotUtf8",
        "CloseCodeTruncated",
        "CloseCode",
    ] {
        assert!(seen.get(expected).is_some_and(|count| *count >= 5), "{expected} came too seldom: {seen:?}");
    }
}

/// The close code that we take and tungstenite does not, so that `compare` is seen to know it.
#[test]
fn the_code_1014_is_taken() {
    let mut random = Random::new(0);
    assert_eq!(compare(b"\x88\x82\0\0\0\0\x03\xf6", &mut random, "1014"), "Closed");
    assert_eq!(compare(b"\x88\x82\0\0\0\0\x03\xf7", &mut random, "1015"), "CloseCode");
}
