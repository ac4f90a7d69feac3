//! The shape of a binary message: version 1, a two-byte header length, a JSON header, a payload.

use crate::limits::BINARY_HEADER_BYTES_MAX;

/// Splits version, header length, header and payload.
#[must_use]
pub fn split_binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const { assert!(BINARY_HEADER_BYTES_MAX == u16::MAX as usize) };
    let [1, high, low, rest @ ..] = bytes else { return None };
    rest.split_at_checked(u16::from_be_bytes([*high, *low]) as usize)
}
