//! Limits on stored dead letters: messages that could not be delivered or stored.

use records::Bounds;

use super::raw::RawConfig;

/// The checked values of `[dead_letters]`.
#[derive(Debug, Clone, Copy)]
pub struct DeadLettersConfig {
    /// Largest number of dead letters per tenant, and how long they are kept.
    pub bounds: Bounds,
    /// Largest message stored with its dead letter, in bytes. The dead letter of a longer message is stored without
    /// the message.
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
