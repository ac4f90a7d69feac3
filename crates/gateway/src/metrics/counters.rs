//! Plain counters of the hot paths: written by one thread each, read at scrape time.
//!
//! Nothing here touches the `metrics` crate: its histograms queue every sample (`record` pushes a float and an
//! `Instant`), which at a million deliveries a second is the delivery loop's own cost again.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge with one writer. Relaxed: a scrape may be a message behind.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of [`Histogram`]'s buckets in microseconds; one more bucket holds the rest.
pub(crate) const LATENCY_BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// Latencies in fixed buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// How many samples were at or below the bound of the same index; the last holds those above all.
    pub(crate) buckets: [Counter; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of all samples in microseconds.
    pub(crate) sum_us: Counter,
}

impl Histogram {
    /// Counts `n` samples of one latency: a message to a thousand receivers is counted once with n = 1000.
    pub(crate) fn record(&self, us: u64, n: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(n);
        self.sum_us.add(us.saturating_mul(n));
    }
}

/// What one shard counts.
#[derive(Debug, Default)]
pub(crate) struct ShardCounters {
    /// Gauge: sockets this shard holds, and those on their way to it. The hub places new ones on the shard with the fewest.
    pub(crate) connections: Counter,
    /// Gauge: subscriptions its sessions hold.
    pub(crate) subscriptions: Counter,
    /// Frames from clients.
    pub(crate) frames_in: Counter,
    /// Message frames put in outboxes as they came, one per receiver; not what is read from history for one client.
    pub(crate) deliveries: Counter,
    /// Bytes that `write(2)` took.
    pub(crate) bytes_out: Counter,
    /// `write(2)` calls.
    pub(crate) writes: Counter,
    /// Error frames sent.
    pub(crate) errors: Counter,
    /// Gap frames sent.
    pub(crate) gaps: Counter,
    /// Gauge: bytes that wait for sockets which take nothing, with what listing them costs.
    pub(crate) backlog: Counter,
    /// Gauge: clients that have read too slowly to stay live and have not caught up yet.
    pub(crate) slow_clients: Counter,
    /// Clients that had, and are live again.
    pub(crate) slow_catch_ups: Counter,
    /// How often a client's queued messages were let go of because too much waited for all.
    pub(crate) slow_evictions: Counter,
    /// Messages that a slow client was not given because newer ones of their topic came.
    pub(crate) superseded: Counter,
    /// Connections closed because their client read too slowly.
    pub(crate) slow_closes: Counter,
    /// Clients sent to emptier instances.
    pub(crate) rebalanced: Counter,
    /// From Redis' clock at publishing to the shard's write pass; needs clocks in step across hosts.
    pub(crate) latency: Histogram,
    /// From a ping to its pong, in whole milliseconds.
    pub(crate) rtt: Histogram,
}

/// What is counted of presence.
#[derive(Debug, Default)]
pub(crate) struct PresenceCounters {
    /// Gauge: members that this instance holds, over all scopes.
    pub(crate) members: Counter,
    /// Gauge: scopes that somebody watches.
    pub(crate) watched: Counter,
    /// Changes heard of, while anybody watched any scope.
    pub(crate) joined: Counter,
    /// The same.
    pub(crate) left: Counter,
    /// Lists read.
    pub(crate) lists: Counter,
    /// How often all that was watched was listed anew.
    pub(crate) resyncs: Counter,
}

/// What the pump counts.
#[derive(Debug, Default)]
pub(crate) struct PumpCounters {
    /// Gauge: 1 while the broker's link is up in both directions.
    pub(crate) broker_up: Counter,
    /// How often it went down.
    pub(crate) broker_downs: Counter,
    /// Gauge: scopes this instance hears.
    pub(crate) scopes: Counter,
    /// Messages heard from the broker.
    pub(crate) messages_in: Counter,
    /// Messages that were not of the documented shape, left out.
    pub(crate) messages_bad: Counter,
    /// Messages published by this instance's clients and acknowledged.
    pub(crate) publishes: Counter,
    /// Messages of this instance's clients that its own members alone got, for want of a broker.
    pub(crate) local: Counter,
    /// Those of them that had been published before, under the same id.
    pub(crate) publish_duplicates: Counter,
    /// Publishes refused or without an answer.
    pub(crate) publish_errors: Counter,
    /// Those of them of which nobody knows whether they were stored.
    pub(crate) publish_unknowns: Counter,
    /// Reads of history: resumes and repairs.
    pub(crate) history_reads: Counter,
    /// Messages that were missed, read and handed on.
    pub(crate) repaired: Counter,
    /// Those of them that only a check found.
    pub(crate) check_repaired: Counter,
    /// Scopes compared with the broker.
    pub(crate) checks: Counter,
    /// Of these, scopes that stood elsewhere than the broker.
    pub(crate) check_holes: Counter,
    /// Scopes in which a gap had to be told to everybody.
    pub(crate) scope_gaps: Counter,
    /// Subscriptions that ended while the broker was up.
    pub(crate) subscriptions_lost: Counter,
}

/// What the edge counts.
#[derive(Debug, Default)]
pub(crate) struct EdgeCounters {
    /// Sockets accepted.
    pub(crate) accepts: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub(crate) accept_errors: Counter,
    /// Requests that did not end in time.
    pub(crate) timeouts: Counter,
    /// Connections on which the TLS handshake failed.
    pub(crate) tls_errors: Counter,
    /// Connections on which HTTP was broken or broke off.
    pub(crate) http_errors: Counter,
    /// Requests refused by HTTP status.
    pub(crate) http_refusals: Counter,
    /// Event streams handed to a shard.
    pub(crate) event_streams: Counter,
    /// Upgrades handed to a shard, welcome or not.
    pub(crate) upgrades: Counter,
    /// Upgrades answered 101 and then refused, full instance included.
    pub(crate) upgrades_refused: Counter,
    /// Upgrades refused because the instance was full.
    pub(crate) upgrades_full: Counter,
    /// Upgrades that had to wait for their turn.
    pub(crate) upgrades_queued: Counter,
    /// Upgrades refused because too many waited.
    pub(crate) upgrades_throttled: Counter,
    /// Upgrades that a balancer was to take to another instance.
    pub(crate) upgrades_diverted: Counter,
    /// Times that clients who were sent to emptier instances came back here.
    pub(crate) rebalance_pauses: Counter,
}
