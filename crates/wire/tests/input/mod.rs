//! Random input for the property tests.

use std::ops::Range;

use test_support::Random;

/// The seeds that every test tries.
pub(crate) const SEEDS: Range<u64> = 0..4_000;

/// Valid inputs, from which the tests derive nearly valid ones.
const VALID: [&[u8]; 14] = [
    br#"{"type":"hello","payload":{"token":"t","channels":[{"channel":"system:*","position":"7-42"}]}}"#,
    br#"{"type":"subscribe","channel":"collection:42:*","correlation_id":"c"}"#,
    br#"{"type":"publish","channel":"user:7","event":"a.b","payload":[1,{"n":"\u00e9"}],"timestamp":"2026-11-20T12:00:00.123+01:00"}"#,
    br#"{"type":"refresh","payload":{"token":"t"},"correlation_id":null}"#,
    br#"{"type":"ping"}"#,
    br#"{"type":"op.applied","payload":{"n":1},"timestamp":"2026-11-20T12:00:00Z","correlation_id":"c1"}"#,
    b"\x01\x00\x25{\"type\":\"publish\",\"channel\":\"user:7\"}\xff\x00",
    b"\x01\x00\x2e{\"type\":\"publish\",\"channel\":\"a\",\"event\":\"b.c\"}\xfe",
    b"\x01\x00\x0c{\"type\":\"x\"}\x00\x01\x02",
    b"1 7 41 1000\nops 2\n{}ops:cursor 4\n{  }",
    b"117649899480706-42",
    b"u:42:ops:cursor",
    b"s:news:*",
    b"auth0|5f7c",
];

pub(crate) fn bytes(random: &mut Random, len_max: usize) -> Vec<u8> {
    let len = random.below(len_max + 1);
    random.bytes(len)
}

/// A text of any characters, mostly those that have a meaning for the parsers.
pub(crate) fn text(random: &mut Random, len_max: usize) -> String {
    const PICKED: [char; 16] = [':', '*', '/', '{', '}', '"', '\\', ' ', '-', '_', '.', 'a', 'Z', '9', 'é', '\0'];
    (0..random.below(len_max + 1)).map(|_| PICKED[random.below(PICKED.len())]).collect()
}

/// A name of 1 to `len_max` characters, from a small alphabet with the special characters of names.
pub(crate) fn name(random: &mut Random, len_max: usize) -> String {
    const LETTERS: &[u8; 12] = b"ab0A_.@|=+~-";
    (0..=random.below(len_max)).map(|_| char::from(LETTERS[random.below(LETTERS.len())])).collect()
}

/// A channel of the default families.
pub(crate) fn channel(random: &mut Random, len_max: usize) -> String {
    let mut channel = match random.below(3) {
        0 => "system".to_owned(),
        1 => format!("user:{}", name(random, len_max)),
        _ => format!("collection:{}", name(random, len_max)),
    };
    for _ in 0..random.below(3) {
        channel = channel + ":" + &name(random, len_max);
    }
    channel
}

/// A valid input with a few bytes removed, inserted, changed or repeated; sometimes random bytes.
pub(crate) fn near_valid(random: &mut Random) -> Vec<u8> {
    if random.below(16) == 0 {
        return bytes(random, 64);
    }
    let mut bytes = VALID[random.below(VALID.len())].to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(4) {
            _ if bytes.is_empty() => bytes.push(random.number() as u8),
            0 => _ = bytes.remove(at),
            1 => bytes.insert(at, b"{}[]\":,*-\\ 01"[random.below(13)]),
            2 => bytes[at] = random.number() as u8,
            _ => {
                let piece = bytes[at..].iter().copied().take(random.below(12)).collect::<Vec<_>>();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}
