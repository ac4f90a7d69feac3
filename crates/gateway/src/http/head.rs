//! Limits of a request head on both ports.

/// Longest request head, in bytes. HAProxy's buffer (`tune.bufsize`) has the same size.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Largest number of header lines. Browsers behind two proxies send about thirty.
pub(crate) const HEADERS_MAX: usize = 64;
