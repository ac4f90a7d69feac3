//! UTF-8 that arrives in pieces.

use super::violation::Violation;

/// How many bytes at the end of `bytes` begin an incomplete character: 0 to 3. Fails as soon as no further bytes could
/// make `bytes` valid UTF-8.
pub(super) fn unfinished_tail(bytes: &[u8]) -> Result<u8, Violation> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => Ok(0),
        Err(error) if error.error_len().is_none() => Ok((bytes.len() - error.valid_up_to()) as u8),
        Err(_) => Err(Violation::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::unfinished_tail;
    use crate::transport::websocket::codec::Violation;

    #[test]
    fn a_cut_character_waits_for_its_rest() {
        for (bytes, tail) in [
            (&b""[..], 0),
            (b"abc", 0),
            (b"\xc2", 1),
            (b"abc\xe2\x82", 2),
            (b"\xf0\x9f\x92", 3),
            (b"\xf4\x8f\xbf", 3),
            ("aé€😀".as_bytes(), 0),
        ] {
            assert_eq!(unfinished_tail(bytes), Ok(tail), "{bytes:x?}");
        }
    }

    /// Each of these is refused at its last byte. Without that byte, valid UTF-8 could still follow.
    #[test]
    fn the_first_impossible_byte_is_refused() {
        for bytes in [
            &b"\x80"[..],    // a continuation byte without a start
            b"\xc0",         // overlong
            b"\xc1",         // overlong
            b"\xe0\x9f",     // overlong
            b"\xf0\x8f",     // overlong
            b"\xed\xa0",     // a surrogate
            b"\xf4\x90",     // above U+10FFFF
            b"\xf5",         // far above
            b"\xff",         // no UTF-8 at all
            b"\xc2\x20",     // cut short
            b"\xe2\x82\x20", // cut short
        ] {
            assert_eq!(unfinished_tail(bytes), Err(Violation::NotUtf8), "{bytes:x?}");
            assert!(unfinished_tail(&bytes[..bytes.len() - 1]).is_ok(), "{bytes:x?} without its last byte");
        }
    }
}
