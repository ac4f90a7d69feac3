//! The table itself.

use ::metrics::Unit;

use super::Value::{EdgeCounter, HealthGauge, PumpCounter, PumpGauge, ShardCounter, ShardGauge, ShardHistogram};
use super::{Metric, Value};
use crate::health::Phase;

const fn metric(name: &'static str, unit: Unit, help: &'static str, value: Value) -> Metric {
    Metric { name, unit, help, value }
}

/// Every metric, in the order of a message's way.
pub(super) const METRICS: &[Metric] = &[
    metric("tidegate_accepts_total", Unit::Count, "Sockets accepted on the main port.", EdgeCounter(|c| &c.accepts)),
    metric(
        "tidegate_accept_errors_total",
        Unit::Count,
        "Accepts that failed for want of descriptors or memory; each pauses accepting for 50 ms.",
        EdgeCounter(|c| &c.accept_errors),
    ),
    metric(
        "tidegate_http_timeouts_total",
        Unit::Count,
        "Requests cut off because they took longer than limits.handshake_timeout_ms.",
        EdgeCounter(|c| &c.timeouts),
    ),
    metric(
        "tidegate_tls_errors_total",
        Unit::Count,
        "TLS handshakes that failed: another protocol, no suite in common, a certificate the client does not trust.",
        EdgeCounter(|c| &c.tls_errors),
    ),
    metric(
        "tidegate_http_errors_total",
        Unit::Count,
        "Connections on which HTTP was broken, or broke off before an answer.",
        EdgeCounter(|c| &c.http_errors),
    ),
    metric(
        "tidegate_http_refusals_total",
        Unit::Count,
        "Requests refused by HTTP status: malformed upgrades, unknown paths, upgrades while draining.",
        EdgeCounter(|c| &c.http_refusals),
    ),
    metric(
        "tidegate_upgrades_total",
        Unit::Count,
        "Upgrades handed to a shard, the refused ones included.",
        EdgeCounter(|c| &c.upgrades),
    ),
    metric(
        "tidegate_upgrades_refused_total",
        Unit::Count,
        "Upgrades answered 101 and then an error frame: token, origin, tenant, subprotocol, or a full instance.",
        EdgeCounter(|c| &c.upgrades_refused),
    ),
    metric(
        "tidegate_upgrades_full_total",
        Unit::Count,
        "Upgrades refused because the instance held limits.connections_max sockets.",
        EdgeCounter(|c| &c.upgrades_full),
    ),
    metric("tidegate_connections", Unit::Count, "Sockets held.", ShardGauge(|c| &c.connections)),
    metric("tidegate_subscriptions", Unit::Count, "Subscriptions held.", ShardGauge(|c| &c.subscriptions)),
    metric("tidegate_frames_in_total", Unit::Count, "Frames from clients.", ShardCounter(|c| &c.frames_in)),
    metric(
        "tidegate_deliveries_total",
        Unit::Count,
        "Messages put in outboxes, one per receiver.",
        ShardCounter(|c| &c.deliveries),
    ),
    metric("tidegate_sent_bytes_total", Unit::Bytes, "Bytes that write(2) took.", ShardCounter(|c| &c.bytes_out)),
    metric("tidegate_writes_total", Unit::Count, "Calls of write(2).", ShardCounter(|c| &c.writes)),
    metric("tidegate_errors_total", Unit::Count, "Error frames sent to clients.", ShardCounter(|c| &c.errors)),
    metric(
        "tidegate_gaps_total",
        Unit::Count,
        "Gap frames sent: holes in a scope that could not be repaired.",
        ShardCounter(|c| &c.gaps),
    ),
    metric(
        "tidegate_slow_closes_total",
        Unit::Count,
        "Connections closed because their outbox was full.",
        ShardCounter(|c| &c.slow_closes),
    ),
    metric(
        "tidegate_delivery_latency_seconds",
        Unit::Seconds,
        "From the broker's clock at publishing to the write pass of the receiver's shard, one sample per receiver; \
         across hosts only as good as their clocks agree.",
        ShardHistogram(|c| &c.latency),
    ),
    metric(
        "tidegate_broker_up",
        Unit::Count,
        "1 while messages travel to the broker and back.",
        PumpGauge(|c| &c.broker_up),
    ),
    metric("tidegate_broker_downs_total", Unit::Count, "Times the broker was lost.", PumpCounter(|c| &c.broker_downs)),
    metric("tidegate_scopes", Unit::Count, "Scopes this instance hears from the broker.", PumpGauge(|c| &c.scopes)),
    metric(
        "tidegate_messages_in_total",
        Unit::Count,
        "Messages heard from the broker.",
        PumpCounter(|c| &c.messages_in),
    ),
    metric(
        "tidegate_messages_bad_total",
        Unit::Count,
        "Messages left out because they were not of the documented shape.",
        PumpCounter(|c| &c.messages_bad),
    ),
    metric(
        "tidegate_publishes_total",
        Unit::Count,
        "Messages of this instance's clients that the broker acknowledged.",
        PumpCounter(|c| &c.publishes),
    ),
    metric(
        "tidegate_publish_errors_total",
        Unit::Count,
        "Messages of this instance's clients that were refused or went unanswered.",
        PumpCounter(|c| &c.publish_errors),
    ),
    metric(
        "tidegate_history_reads_total",
        Unit::Count,
        "Reads of history, for resumes and repairs.",
        PumpCounter(|c| &c.history_reads),
    ),
    metric(
        "tidegate_lease_held",
        Unit::Count,
        "1 while this incarnation holds its lease.",
        HealthGauge(|health| f64::from(health.is_lease_held())),
    ),
    metric(
        "tidegate_isolated",
        Unit::Count,
        "1 while only clients of this instance can be reached: no broker, or no lease.",
        HealthGauge(|health| f64::from(health.is_isolated())),
    ),
    metric(
        "tidegate_draining",
        Unit::Count,
        "1 once the instance gives its clients away.",
        HealthGauge(|health| f64::from(health.phase() == Phase::Draining)),
    ),
];
