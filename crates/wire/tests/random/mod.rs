//! Seeded random input for the property tests.

use std::ops::Range;

/// The seeds that every test tries.
pub(crate) const SEEDS: Range<u64> = 0..4_000;

/// SplitMix64: small, and every seed is a good one.
pub(crate) struct Random(u64);

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

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).expect("below a usize")
    }

    pub(crate) fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        (0..self.below(len_max + 1)).map(|_| self.number() as u8).collect()
    }

    /// A text of any characters, mostly those that have a meaning for the parsers.
    pub(crate) fn text(&mut self, len_max: usize) -> String {
        const PICKED: [char; 16] = [':', '*', '/', '{', '}', '"', '\\', ' ', '-', '_', '.', 'a', 'Z', '9', 'é', '\0'];
        (0..self.below(len_max + 1)).map(|_| PICKED[self.below(PICKED.len())]).collect()
    }

    /// A name of 1 to `len_max` characters, from a small alphabet with the special characters of names.
    pub(crate) fn name(&mut self, len_max: usize) -> String {
        const LETTERS: &[u8; 12] = b"ab0A_.@|=+~-";
        (0..=self.below(len_max)).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }

    /// A channel of the default families.
    pub(crate) fn channel(&mut self, len_max: usize) -> String {
        let mut channel = match self.below(3) {
            0 => "system".to_owned(),
            1 => format!("user:{}", self.name(len_max)),
            _ => format!("collection:{}", self.name(len_max)),
        };
        for _ in 0..self.below(3) {
            channel = channel + ":" + &self.name(len_max);
        }
        channel
    }

    /// A valid input with a few bytes removed, inserted, changed or repeated; sometimes random bytes.
    pub(crate) fn near_valid(&mut self) -> Vec<u8> {
        if self.below(16) == 0 {
            return self.bytes(64);
        }
        let mut bytes = VALID[self.below(VALID.len())].to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                _ if bytes.is_empty() => bytes.push(self.number() as u8),
                0 => _ = bytes.remove(at),
                1 => bytes.insert(at, b"{}[]\":,*-\\ 01"[self.below(13)]),
                2 => bytes[at] = self.number() as u8,
                _ => {
                    let piece = bytes[at..].iter().copied().take(self.below(12)).collect::<Vec<_>>();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}
