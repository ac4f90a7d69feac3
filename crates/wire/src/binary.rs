//! The layout of a binary message: version 1, a two-byte header length, a JSON header, then the payload.

use crate::limits::BINARY_HEADER_BYTES_MAX;

/// Returns the header and the payload. Returns none if the version is not 1 or the bytes are too short.
#[must_use]
pub fn split_binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const { assert!(BINARY_HEADER_BYTES_MAX == u16::MAX as usize) };
    let [1, high, low, rest @ ..] = bytes else { return None };
    rest.split_at_checked(u16::from_be_bytes([*high, *low]) as usize)
}
