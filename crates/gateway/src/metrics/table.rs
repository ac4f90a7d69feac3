//! The table itself.

use std::time::Instant;

use ::metrics::Unit;

use super::Value::{
    BreakerCounter, BreakerGauge, CloseCounter, DeadLetterCounter, EdgeCounter, ErrorCounter, HealthCounter,
    HealthGauge, InstanceStateGauge, LagGauge, PresenceCounter, PresenceGauge, PumpCounter, PumpGauge, ReceiptCounter,
    ReceiptGauge, ShardCounter, ShardGauge, ShardHistogram,
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
        "Accepts that failed because descriptors or memory were missing; each one pauses accepting for 50 ms.",
        EdgeCounter(|c| &c.accept_errors),
    ),
    metric(
        "tidegate_http_timeouts_total",
        Unit::Count,
        "HTTP requests that were cut because they took longer than limits.handshake_timeout_ms.",
        EdgeCounter(|c| &c.timeouts),
    ),
    metric(
        "tidegate_tls_errors_total",
        Unit::Count,
        "TLS handshakes that failed: another protocol, no cipher suite in common, a certificate that the client does not trust.",
        EdgeCounter(|c| &c.tls_errors),
    ),
    metric(
        "tidegate_http_errors_total",
        Unit::Count,
        "Connections with broken HTTP, or that ended before an answer.",
        EdgeCounter(|c| &c.http_errors),
    ),
    metric(
        "tidegate_http_refusals_total",
        Unit::Count,
        "Requests refused by an HTTP status: malformed upgrades, unknown paths, upgrades while draining.",
        EdgeCounter(|c| &c.http_refusals),
    ),
    metric(
        "tidegate_heads_evicted_total",
        Unit::Count,
        "Connections cut because all places for requests in progress were taken and their head had not arrived: the oldest of the address with the most.",
        EdgeCounter(|c| &c.heads_evicted),
    ),
    metric(
        "tidegate_addresses_refused_total",
        Unit::Count,
        "Clients refused because their address had too many connections or attempts (limits.connections_per_address, limits.connects_per_second_per_address).",
        EdgeCounter(|c| &c.addresses_refused),
    ),
    metric(
        "tidegate_event_streams_total",
        Unit::Count,
        "Event streams (/sse) handed to a shard.",
        EdgeCounter(|c| &c.event_streams),
    ),
    metric(
        "tidegate_upgrades_total",
        Unit::Count,
        "Upgrades handed to a shard, including the refused ones.",
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
        "Upgrades that waited, up to a second, because of limits.connects_per_second.",
        EdgeCounter(|c| &c.upgrades_queued),
    ),
    metric(
        "tidegate_upgrades_throttled_total",
        Unit::Count,
        "Upgrades refused because too many were waiting; the client is told when to come back.",
        EdgeCounter(|c| &c.upgrades_throttled),
    ),
    metric(
        "tidegate_upgrades_diverted_total",
        Unit::Count,
        "Upgrades answered 503 once, so that HAProxy takes the client to an emptier instance.",
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
        "Times rebalancing paused because too many moved clients came back here: for a minute, longer each time.",
        EdgeCounter(|c| &c.rebalance_pauses),
    ),
    metric(
        "tidegate_connections",
        Unit::Count,
        "Open sockets, from the moment an upgrade is answered 101.",
        ShardGauge(|c| &c.connections),
    ),
    metric(
        "tidegate_unauthenticated_connections",
        Unit::Count,
        "Open sockets whose client has shown no token yet.",
        ShardGauge(|c| &c.unauthenticated),
    ),
    metric(
        "tidegate_unauthenticated_evictions_total",
        Unit::Count,
        "Connections without a token that were closed to make room (limits.unauthenticated_max).",
        ShardCounter(|c| &c.unauthenticated_evictions),
    ),
    metric(
        "tidegate_inbound_bytes",
        Unit::Bytes,
        "Memory held for messages of clients that have begun and not ended.",
        ShardGauge(|c| &c.inbound),
    ),
    metric(
        "tidegate_inbound_evictions_total",
        Unit::Count,
        "Connections closed because unfinished messages held more than limits.inbound_bytes_max together.",
        ShardCounter(|c| &c.inbound_evictions),
    ),
    metric(
        "tidegate_message_timeouts_total",
        Unit::Count,
        "Connections closed because a message took longer than limits.message_timeout_ms.",
        ShardCounter(|c| &c.message_timeouts),
    ),
    metric(
        "tidegate_subscriptions",
        Unit::Count,
        "Subscriptions of connected clients.",
        ShardGauge(|c| &c.subscriptions),
    ),
    metric("tidegate_frames_in_total", Unit::Count, "Frames received from clients.", ShardCounter(|c| &c.frames_in)),
    metric(
        "tidegate_deliveries_total",
        Unit::Count,
        "Messages put into outboxes as they arrived, one per receiver; without those that one client gets from history.",
        ShardCounter(|c| &c.deliveries),
    ),
    metric("tidegate_sent_bytes_total", Unit::Bytes, "Bytes that write(2) accepted.", ShardCounter(|c| &c.bytes_out)),
    metric("tidegate_writes_total", Unit::Count, "Calls of write(2).", ShardCounter(|c| &c.writes)),
    metric("tidegate_errors_total", Unit::Count, "Error frames sent to clients, by code.", ErrorCounter),
    metric(
        "tidegate_closes_total",
        Unit::Count,
        "Connections that the gateway closed, by close code. Connections that clients or the network ended are not counted.",
        CloseCounter,
    ),
    metric(
        "tidegate_gaps_total",
        Unit::Count,
        "Gap frames sent: missing messages in a scope that could not be repaired.",
        ShardCounter(|c| &c.gaps),
    ),
    metric(
        "tidegate_backlog_bytes",
        Unit::Bytes,
        "Unsent data for all blocked clients together; shared messages count once per client.",
        ShardGauge(|c| &c.backlog),
    ),
    metric(
        "tidegate_slow_clients",
        Unit::Count,
        "Clients that read too slowly for live delivery and have not caught up yet.",
        ShardGauge(|c| &c.slow_clients),
    ),
    metric(
        "tidegate_slow_catch_ups_total",
        Unit::Count,
        "Times a slow client caught up and became live again.",
        ShardCounter(|c| &c.slow_catch_ups),
    ),
    metric(
        "tidegate_slow_evictions_total",
        Unit::Count,
        "Times messages that waited for a slow client were evicted because limits.backlog_bytes_max was exceeded.",
        ShardCounter(|c| &c.slow_evictions),
    ),
    metric(
        "tidegate_superseded_total",
        Unit::Count,
        "Messages not sent to slow clients because newer messages of their topic arrived (on_slow = latest).",
        ShardCounter(|c| &c.superseded),
    ),
    metric(
        "tidegate_slow_closes_total",
        Unit::Count,
        "Connections closed with 4000 because the client read too slowly.",
        ShardCounter(|c| &c.slow_closes),
    ),
    metric(
        "tidegate_delivery_latency_seconds",
        Unit::Seconds,
        "Time from the broker's clock at publishing to the write pass of the receiver's shard, one sample per receiver; \
         between hosts only as exact as their clocks agree.",
        ShardHistogram(|c| &c.latency),
    ),
    metric(
        "tidegate_client_rtt_seconds",
        Unit::Seconds,
        "Time from a ping to the client's pong, in whole milliseconds, at least one; one sample per limits.ping_interval_ms.",
        ShardHistogram(|c| &c.rtt),
    ),
    metric(
        "tidegate_broker_up",
        Unit::Count,
        "1 while messages travel to the broker and back.",
        PumpGauge(|c| &c.broker_up),
    ),
    metric(
        "tidegate_broker_downs_total",
        Unit::Count,
        "Times the link to the broker was lost.",
        PumpCounter(|c| &c.broker_downs),
    ),
    metric(
        "tidegate_scopes",
        Unit::Count,
        "Scopes that this instance is subscribed to at the broker.",
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
        "Messages not delivered because they do not have the documented format.",
        PumpCounter(|c| &c.messages_bad),
    ),
    metric(
        "tidegate_dead_letters_total",
        Unit::Count,
        "Dead letters stored by this instance: messages that reached nobody, or only clients of this instance.",
        DeadLetterCounter(|c| &c.kept),
    ),
    metric(
        "tidegate_dead_letters_known_total",
        Unit::Count,
        "Dead letters that were stored before, nearly always by another instance.",
        DeadLetterCounter(|c| &c.known),
    ),
    metric(
        "tidegate_dead_letters_dropped_total",
        Unit::Count,
        "Dead letters lost: 4 MiB were waiting already because Redis was unavailable, or Redis rejects them permanently.",
        DeadLetterCounter(|c| &c.dropped),
    ),
    metric(
        "tidegate_presence_members",
        Unit::Count,
        "Members with a connection to this instance, in families with presence; a user counts once in each scope.",
        PresenceGauge(|c| &c.members),
    ),
    metric(
        "tidegate_presence_scopes_watched",
        Unit::Count,
        "Scopes that clients of this instance watch: they asked for the members and receive the changes.",
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
        "Times all watched scopes were listed again because changes may have been missed.",
        PresenceCounter(|c| &c.resyncs),
    ),
    metric("tidegate_receipts_total", Unit::Count, "Receipts accepted from clients.", ReceiptCounter(|c| &c.taken)),
    metric(
        "tidegate_receipts_written_total",
        Unit::Count,
        "Receipts written: one for all receipts that a user sends for a scope within a second.",
        ReceiptCounter(|c| &c.written),
    ),
    metric(
        "tidegate_receipts_dropped_total",
        Unit::Count,
        "Receipts dropped: 65,536 users and scopes were waiting already, or Redis rejects them permanently.",
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
        "Messages in tidegate_publishes_total that were published before under the same id: not stored again.",
        PumpCounter(|c| &c.publish_duplicates),
    ),
    metric(
        "tidegate_local_publishes_total",
        Unit::Count,
        "Messages of this instance's clients that only its own subscribers received, because the broker was unavailable.",
        PumpCounter(|c| &c.local),
    ),
    metric(
        "tidegate_publish_errors_total",
        Unit::Count,
        "Messages of this instance's clients that were refused or not answered.",
        PumpCounter(|c| &c.publish_errors),
    ),
    metric(
        "tidegate_publish_unknown_total",
        Unit::Count,
        "Messages in tidegate_publish_errors_total that may or may not have been stored: no answer came in time.",
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
        "Messages that this instance missed, read from history and delivered.",
        PumpCounter(|c| &c.repaired),
    ),
    metric(
        "tidegate_check_repaired_total",
        Unit::Count,
        "Messages in tidegate_repaired_total that no later message would have shown: found by comparing with the broker.",
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
        "Comparisons that found missing messages, or a broker that was set back or erased.",
        PumpCounter(|c| &c.check_holes),
    ),
    metric(
        "tidegate_scope_gaps_total",
        Unit::Count,
        "Holes in a scope that this instance could not repair and announced to all its subscribers.",
        PumpCounter(|c| &c.scope_gaps),
    ),
    metric(
        "tidegate_subscriptions_lost_total",
        Unit::Count,
        "Scopes whose subscription ended while the broker was up, for example when a slot moves; each was subscribed again.",
        PumpCounter(|c| &c.subscriptions_lost),
    ),
    metric(
        "tidegate_breakers_open",
        Unit::Count,
        "Redis servers that did not answer the last calls of the registry, the records and the like; each gets one trial call at a time.",
        BreakerGauge(|counts| counts.open),
    ),
    metric(
        "tidegate_breaker_opens_total",
        Unit::Count,
        "Times the breaker of a Redis server opened.",
        BreakerCounter(|counts| counts.opens),
    ),
    metric(
        "tidegate_breaker_refusals_total",
        Unit::Count,
        "Calls that failed at once because a breaker was open.",
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
        "Times the instance was stopped for longer than its lease or was replaced: it moved its clients and began a new incarnation.",
        HealthCounter(Health::fence_count),
    ),
    metric(
        "tidegate_instance_state",
        Unit::Count,
        "1 for the state that the instance is in, by label: starting, connecting, connected, lease_lost, isolated, fenced, terminating, draining, frozen.",
        InstanceStateGauge,
    ),
    metric(
        "tidegate_loop_lag_seconds",
        Unit::Seconds,
        "Longest delay of each loop (each shard, the pump, the edge) in the last one to two minutes.",
        LagGauge,
    ),
    metric(
        "tidegate_draining",
        Unit::Count,
        "1 after the instance has begun to move its clients to other instances.",
        HealthGauge(|health| f64::from(health.phase() == Phase::Draining)),
    ),
];
