//! The limits of connections that an operator can set. The limits that a client can rely on are in [`wire`].

use std::time::Duration;

use connection_registry::{ConnectionLimits, OnExcess};

use super::raw::RawConfig;

/// The checked values of `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Largest message that a client may send, in bytes.
    pub message_bytes_max: usize,
    /// Largest message of a client that has shown no token, in bytes.
    pub hello_bytes_max: usize,
    /// Longest time from the first byte of a client's message to its last.
    pub message_timeout: Duration,
    /// Limit of the bytes that all unfinished messages of clients hold together.
    pub inbound_bytes_max: usize,
    /// Largest sustained rate of frames from one client, in frames per second.
    pub messages_per_second: u32,
    /// Largest number of frames that a client may send at once after a pause.
    pub messages_burst: u32,
    /// Limit of unsent data for all blocked clients together, in bytes.
    pub backlog_bytes_max: usize,
    /// Longest time that a socket may accept no data while data waits for it.
    pub write_timeout: Duration,
    /// Interval at which the gateway pings a silent client.
    pub ping_interval: Duration,
    /// Longest time that a client may be silent after a ping.
    pub pong_timeout: Duration,
    /// Longest time that a connection may exist without a token.
    pub hello_timeout: Duration,
    /// Longest time that the HTTP request of an upgrade may take.
    pub handshake_timeout: Duration,
    /// Limit of unsent data for one client, in bytes.
    pub outbox_bytes_max: usize,
    /// Largest number of connections of this instance. `None` derives it from the limit of file descriptors.
    pub connections_max: Option<usize>,
    /// Largest number of connections of this instance that have shown no token. `None` is a quarter of all.
    pub unauthenticated_max: Option<usize>,
    /// Largest rate of accepted connections per second; 0 for no limit.
    pub connects_per_second: u32,
    /// Largest number of connections of one address. `None` is half of all.
    pub connections_per_address: Option<usize>,
    /// Largest rate of connection attempts from one address. `None` is half of all.
    pub connects_per_second_per_address: Option<u32>,
    /// Largest number of connections per user and per tenant, over all instances.
    pub fleet: ConnectionLimits,
}

/// An outbox must hold this many messages of the largest size, so that a client that reads is not treated as slow
/// because of one message.
const MESSAGES_PER_OUTBOX_MIN: usize = 4;

impl LimitsConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let limits = Self {
            message_bytes_max: raw.size("limits.message_bytes_max"),
            hello_bytes_max: raw.size("limits.hello_bytes_max"),
            message_timeout: raw.ms("limits.message_timeout_ms"),
            inbound_bytes_max: raw.size("limits.inbound_bytes_max"),
            messages_per_second: raw.count("limits.messages_per_second"),
            messages_burst: raw.count("limits.messages_burst"),
            backlog_bytes_max: raw.size("limits.backlog_bytes_max"),
            write_timeout: raw.ms("limits.write_timeout_ms"),
            ping_interval: raw.ms("limits.ping_interval_ms"),
            pong_timeout: raw.ms("limits.pong_timeout_ms"),
            hello_timeout: raw.ms("limits.hello_timeout_ms"),
            handshake_timeout: raw.ms("limits.handshake_timeout_ms"),
            outbox_bytes_max: raw.size("limits.outbox_bytes_max"),
            connections_max: Some(raw.size("limits.connections_max")).filter(|connections| *connections > 0),
            unauthenticated_max: Some(raw.size("limits.unauthenticated_max")).filter(|connections| *connections > 0),
            connects_per_second: raw.count("limits.connects_per_second"),
            connections_per_address: Some(raw.size("limits.connections_per_address")).filter(|max| *max > 0),
            connects_per_second_per_address: Some(raw.count("limits.connects_per_second_per_address"))
                .filter(|rate| *rate > 0),
            fleet: ConnectionLimits {
                per_user_max: raw.count("limits.connections_per_user"),
                per_tenant_max: raw.count("limits.connections_per_tenant"),
                on_excess: match raw.text("limits.on_excess") {
                    "close_oldest" => OnExcess::CloseOldest,
                    _ => OnExcess::Reject,
                },
            },
        };
        let outbox_bytes_min = limits.message_bytes_max.saturating_mul(MESSAGES_PER_OUTBOX_MIN);
        if limits.outbox_bytes_max < outbox_bytes_min {
            let rule = format!("{MESSAGES_PER_OUTBOX_MIN} × limits.message_bytes_max");
            raw.wrong("limits.outbox_bytes_max", format!("at least {outbox_bytes_min}, which is {rule}"));
        }
        if limits.backlog_bytes_max < limits.outbox_bytes_max {
            let rule = format!("at least limits.outbox_bytes_max, which is {}", limits.outbox_bytes_max);
            raw.wrong("limits.backlog_bytes_max", rule);
        }
        if limits.inbound_bytes_max < limits.message_bytes_max {
            let rule = format!("at least limits.message_bytes_max, which is {}", limits.message_bytes_max);
            raw.wrong("limits.inbound_bytes_max", rule);
        }
        if limits.pong_timeout >= limits.ping_interval {
            let ping_ms = limits.ping_interval.as_millis();
            raw.wrong("limits.pong_timeout_ms", format!("less than limits.ping_interval_ms, which is {ping_ms}"));
        }
        limits
    }
}
