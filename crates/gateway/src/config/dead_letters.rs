//! What is kept of messages that could not be delivered or stored.

use records::Bounds;

use super::raw::RawConfig;

/// Checked `[dead_letters]`.
#[derive(Debug, Clone, Copy)]
pub struct DeadLettersConfig {
    /// How many of each tenant, and for how long.
    pub bounds: Bounds,
    /// Longer messages are told of and not kept.
    pub message_bytes_max: usize,
}

impl DeadLettersConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        Self {
            bounds: Bounds { entries_max: raw.number("dead_letters.entries_max"), ttl: raw.ms("dead_letters.ttl_ms") },
            message_bytes_max: raw.size("dead_letters.message_bytes_max"),
        }
    }
}
