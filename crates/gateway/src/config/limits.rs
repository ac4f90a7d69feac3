//! What an operator may tune for each connection. What a client may rely on is in [`wire`]'s limits.

use std::time::Duration;

use connection_registry::{ConnectionLimits, OnExcess};

use super::raw::RawConfig;

/// Checked `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Largest message a client may send, in bytes.
    pub message_bytes_max: usize,
    /// Most frames a client may send per second in the long run.
    pub messages_per_second: u32,
    /// Most frames a client may send at once after a pause.
    pub messages_burst: u32,
    /// What may wait for all clients whose sockets take nothing, in bytes.
    pub backlog_bytes_max: usize,
    /// How long a socket may take nothing while something waits for it.
    pub write_timeout: Duration,
    /// How often the gateway pings a client that says nothing.
    pub ping_interval: Duration,
    /// How long a client may be silent after a ping.
    pub pong_timeout: Duration,
    /// How long a connection may stay without a token.
    pub hello_timeout: Duration,
    /// How long the HTTP request of an upgrade may take.
    pub handshake_timeout: Duration,
    /// What may wait for one client, in bytes.
    pub outbox_bytes_max: usize,
    /// Most connections of this instance; `None` is what the descriptor limit allows.
    pub connections_max: Option<usize>,
    /// Connections taken in per second; 0 for any number.
    pub connects_per_second: u32,
    /// Most connections of one user and of one tenant over all instances.
    pub fleet: ConnectionLimits,
}

/// The choices of `limits.on_excess`.
pub(super) const ON_EXCESS: &[&str] = &["reject", "close_oldest"];

/// How many of the largest message must fit an outbox, so that one is never "too slow" for a client that reads.
const MESSAGES_PER_OUTBOX_MIN: usize = 4;

impl LimitsConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let limits = Self {
            message_bytes_max: raw.size("limits.message_bytes_max"),
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
            connects_per_second: raw.count("limits.connects_per_second"),
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
        if limits.pong_timeout >= limits.ping_interval {
            let ping_ms = limits.ping_interval.as_millis();
            raw.wrong("limits.pong_timeout_ms", format!("less than limits.ping_interval_ms, which is {ping_ms}"));
        }
        limits
    }
}
