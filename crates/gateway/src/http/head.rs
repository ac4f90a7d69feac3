//! Bounds of a request head on both ports.

/// Longest request head. HAProxy's own buffer (`tune.bufsize`) has the same size.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header lines; browsers behind two proxies send about thirty.
pub(crate) const HEADERS_MAX: usize = 64;
