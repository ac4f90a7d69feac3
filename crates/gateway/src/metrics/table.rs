//! The table itself.

use std::time::Instant;

use ::metrics::Unit;

use super::Value::{
    BreakerCounter, BreakerGauge, DeadLetterCounter, EdgeCounter, HealthCounter, HealthGauge, InstanceStateGauge,
    LagGauge, PresenceCounter, PresenceGauge, PumpCounter, PumpGauge, ReceiptCounter, ReceiptGauge, ShardCounter,
    ShardGauge, ShardHistogram,
};
use super::{Metric, Value};
use crate::health::Health;
use crate::health::instance_state::LeaseStatus;
use crate::health::instance_state::Phase;

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
    metric(
        "tidegate_upgrades_queued_total",
        Unit::Count,
        "Upgrades that waited for their turn, up to a second (limits.connects_per_second).",
        EdgeCounter(|c| &c.upgrades_queued),
    ),
    metric(
        "tidegate_upgrades_throttled_total",
        Unit::Count,
        "Upgrades refused because too many waited, and told when to come back.",
        EdgeCounter(|c| &c.upgrades_throttled),
    ),
    metric(
        "tidegate_upgrades_diverted_total",
        Unit::Count,
        "Upgrades answered 503 once, so that HAProxy takes them to an emptier instance.",
        EdgeCounter(|c| &c.upgrades_diverted),
    ),
    metric(
        "tidegate_rebalanced_total",
        Unit::Count,
        "Clients sent to emptier instances.",
        ShardCounter(|c| &c.rebalanced),
    ),
    metric(
        "tidegate_rebalance_pauses_total",
        Unit::Count,
        "Times that too many of those came back here: nobody is moved for a minute, longer each time.",
        EdgeCounter(|c| &c.rebalance_pauses),
    ),
    metric(
        "tidegate_connections",
        Unit::Count,
        "Sockets held, from the moment an upgrade is answered 101.",
        ShardGauge(|c| &c.connections),
    ),
    metric("tidegate_subscriptions", Unit::Count, "Subscriptions held.", ShardGauge(|c| &c.subscriptions)),
    metric("tidegate_frames_in_total", Unit::Count, "Frames from clients.", ShardCounter(|c| &c.frames_in)),
    metric(
        "tidegate_deliveries_total",
        Unit::Count,
        "Messages put in outboxes as they came, one per receiver; not what one client is given from history.",
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
        "tidegate_backlog_bytes",
        Unit::Bytes,
        "What waits for sockets that take nothing, as if no two clients shared a frame.",
        ShardGauge(|c| &c.backlog),
    ),
    metric(
        "tidegate_slow_clients",
        Unit::Count,
        "Clients that read too slowly to stay live, and have not caught up yet.",
        ShardGauge(|c| &c.slow_clients),
    ),
    metric(
        "tidegate_slow_catch_ups_total",
        Unit::Count,
        "Slow clients that are live again.",
        ShardCounter(|c| &c.slow_catch_ups),
    ),
    metric(
        "tidegate_slow_evictions_total",
        Unit::Count,
        "Times that messages waiting for a slow client were evicted because limits.backlog_bytes_max was exceeded.",
        ShardCounter(|c| &c.slow_evictions),
    ),
    metric(
        "tidegate_superseded_total",
        Unit::Count,
        "Messages that slow clients were not given, because newer ones of their topic came (on_slow = latest).",
        ShardCounter(|c| &c.superseded),
    ),
    metric(
        "tidegate_slow_closes_total",
        Unit::Count,
        "Connections closed with 4000 because their client read too slowly.",
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
        "tidegate_client_rtt_seconds",
        Unit::Seconds,
        "From a ping to the client's pong, in whole milliseconds and at least one; one sample each limits.ping_interval_ms.",
        ShardHistogram(|c| &c.rtt),
    ),
    metric(
        "tidegate_broker_up",
        Unit::Count,
        "1 while messages travel to the broker and back.",
        PumpGauge(|c| &c.broker_up),
    ),
    metric("tidegate_broker_downs_total", Unit::Count, "Times the broker was lost.", PumpCounter(|c| &c.broker_downs)),
    metric(
        "tidegate_scopes",
        Unit::Count,
        "Scopes this instance is subscribed to at the broker.",
        PumpGauge(|c| &c.scopes),
    ),
    metric(
        "tidegate_messages_in_total",
        Unit::Count,
        "Messages received from the broker.",
        PumpCounter(|c| &c.messages_in),
    ),
    metric(
        "tidegate_messages_bad_total",
        Unit::Count,
        "Messages left out because they were not of the documented shape.",
        PumpCounter(|c| &c.messages_bad),
    ),
    metric(
        "tidegate_dead_letters_total",
        Unit::Count,
        "Dead letters this instance has kept: messages that reached nobody, or only clients of this instance.",
        DeadLetterCounter(|c| &c.kept),
    ),
    metric(
        "tidegate_dead_letters_known_total",
        Unit::Count,
        "Dead letters that had been kept before, nearly always by another instance.",
        DeadLetterCounter(|c| &c.known),
    ),
    metric(
        "tidegate_dead_letters_dropped_total",
        Unit::Count,
        "Dead letters lost: 4 MiB of them waited already because Redis was away, or Redis will not have them.",
        DeadLetterCounter(|c| &c.dropped),
    ),
    metric(
        "tidegate_presence_members",
        Unit::Count,
        "Members of scopes with a connection here, a user once in each scope, in families with presence.",
        PresenceGauge(|c| &c.members),
    ),
    metric(
        "tidegate_presence_scopes_watched",
        Unit::Count,
        "Scopes whose members clients here have asked for and are told of.",
        PresenceGauge(|c| &c.watched),
    ),
    metric(
        "tidegate_presence_joined_total",
        Unit::Count,
        "Members of the whole fleet that joined, as received while any scope was watched here.",
        PresenceCounter(|c| &c.joined),
    ),
    metric(
        "tidegate_presence_left_total",
        Unit::Count,
        "Members of the whole fleet that left, as received while any scope was watched here.",
        PresenceCounter(|c| &c.left),
    ),
    metric("tidegate_presence_lists_total", Unit::Count, "Lists of members read.", PresenceCounter(|c| &c.lists)),
    metric(
        "tidegate_presence_resyncs_total",
        Unit::Count,
        "How often all watched scopes were listed anew, because changes may have been missed.",
        PresenceCounter(|c| &c.resyncs),
    ),
    metric("tidegate_receipts_total", Unit::Count, "Receipts taken from clients.", ReceiptCounter(|c| &c.taken)),
    metric(
        "tidegate_receipts_written_total",
        Unit::Count,
        "Receipts written: of all that a user sends for a scope within a second, one.",
        ReceiptCounter(|c| &c.written),
    ),
    metric(
        "tidegate_receipts_dropped_total",
        Unit::Count,
        "Receipts let go of: 65,536 users and scopes waited already, or Redis will not have them.",
        ReceiptCounter(|c| &c.dropped),
    ),
    metric(
        "tidegate_receipts_waiting",
        Unit::Count,
        "Users and scopes whose receipts wait to be written.",
        ReceiptGauge(|c| &c.waiting),
    ),
    metric(
        "tidegate_publishes_total",
        Unit::Count,
        "Messages of this instance's clients that the broker acknowledged.",
        PumpCounter(|c| &c.publishes),
    ),
    metric(
        "tidegate_publish_duplicates_total",
        Unit::Count,
        "Those of them that had been published before under the same id: not stored again.",
        PumpCounter(|c| &c.publish_duplicates),
    ),
    metric(
        "tidegate_local_publishes_total",
        Unit::Count,
        "Messages of this instance's clients that only its own members got, because the broker was away.",
        PumpCounter(|c| &c.local),
    ),
    metric(
        "tidegate_publish_errors_total",
        Unit::Count,
        "Messages of this instance's clients that were refused or went unanswered.",
        PumpCounter(|c| &c.publish_errors),
    ),
    metric(
        "tidegate_publish_unknown_total",
        Unit::Count,
        "Those of them of which nobody knows whether they were stored: no answer came in time.",
        PumpCounter(|c| &c.publish_unknowns),
    ),
    metric(
        "tidegate_history_reads_total",
        Unit::Count,
        "Reads of history, for resumes and repairs.",
        PumpCounter(|c| &c.history_reads),
    ),
    metric(
        "tidegate_repaired_total",
        Unit::Count,
        "Messages that this instance missed, read from history and handed on.",
        PumpCounter(|c| &c.repaired),
    ),
    metric(
        "tidegate_check_repaired_total",
        Unit::Count,
        "Those of them that no later message would have shown: found by comparing with the broker.",
        PumpCounter(|c| &c.check_repaired),
    ),
    metric(
        "tidegate_checks_total",
        Unit::Count,
        "Comparisons of a scope with the broker's newest position.",
        PumpCounter(|c| &c.checks),
    ),
    metric(
        "tidegate_check_holes_total",
        Unit::Count,
        "Comparisons that found something missing, or the broker set back or erased.",
        PumpCounter(|c| &c.check_holes),
    ),
    metric(
        "tidegate_scope_gaps_total",
        Unit::Count,
        "Holes in a scope that this instance could not repair and told to everybody in it.",
        PumpCounter(|c| &c.scope_gaps),
    ),
    metric(
        "tidegate_subscriptions_lost_total",
        Unit::Count,
        "Scopes whose subscription ended while the broker was up, as when a slot moves; each was begun again.",
        PumpCounter(|c| &c.subscriptions_lost),
    ),
    metric(
        "tidegate_breakers_open",
        Unit::Count,
        "Redis servers that did not answer the last calls of the registry, the records and the like, and get one trial at a time.",
        BreakerGauge(|counts| counts.open),
    ),
    metric(
        "tidegate_breaker_opens_total",
        Unit::Count,
        "Times a server began to be one of them.",
        BreakerCounter(|counts| counts.opens),
    ),
    metric(
        "tidegate_breaker_refusals_total",
        Unit::Count,
        "Calls that failed at once because of it.",
        BreakerCounter(|counts| counts.refused),
    ),
    metric(
        "tidegate_lease_held",
        Unit::Count,
        "1 while this incarnation holds its lease.",
        HealthGauge(|health| f64::from(u8::from(health.lease(Instant::now()) == LeaseStatus::Held))),
    ),
    metric(
        "tidegate_fences_total",
        Unit::Count,
        "Times the instance slept through its lease or was replaced: it moved its clients and began a new incarnation.",
        HealthCounter(Health::fence_count),
    ),
    metric(
        "tidegate_instance_state",
        Unit::Count,
        "By state, 1 for the one the instance is in: starting, connected, lease_lost, isolated, fenced, draining, frozen.",
        InstanceStateGauge,
    ),
    metric(
        "tidegate_loop_lag_seconds",
        Unit::Seconds,
        "By loop (each shard, the pump, the edge), how late its longest turn of the last one to two minutes made it.",
        LagGauge,
    ),
    metric(
        "tidegate_draining",
        Unit::Count,
        "1 once the instance gives its clients away.",
        HealthGauge(|health| f64::from(health.phase() == Phase::Draining)),
    ),
];
