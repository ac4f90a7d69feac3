//! Counters of the hot paths. Each is written by one thread and read at scrape time.
//!
//! They do not use the `metrics` crate: its histograms queue every sample (`record` pushes a float and an `Instant`).
//! At a million deliveries per second this would double the cost of the delivery loop.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::{Close, ErrorCode};

/// A counter or gauge with one writer. Accesses are relaxed: a scrape may be a message behind.
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

/// One counter for each of a closed set of codes.
#[derive(Debug)]
pub(crate) struct CountersByCode<const N: usize>([Counter; N]);

impl<const N: usize> Default for CountersByCode<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> CountersByCode<N> {
    /// Counts one of `all`.
    pub(crate) fn count<C: PartialEq>(&self, all: &[C; N], code: C) {
        if let Some(at) = all.iter().position(|other| *other == code) {
            self.0[at].add(1);
        }
    }

    /// The counts, in the order of the codes.
    pub(crate) fn get(&self) -> [u64; N] {
        self.0.each_ref().map(Counter::get)
    }
}

/// Upper bounds of [`Histogram`]'s buckets, in microseconds. One more bucket holds the samples above the last bound.
pub(crate) const LATENCY_BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// Latencies, counted in fixed buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Number of samples at or below the bound with the same index and above the bound before. The last bucket holds
    /// the samples above all bounds.
    pub(crate) buckets: [Counter; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of all samples, in microseconds.
    pub(crate) sum_us: Counter,
}

impl Histogram {
    /// Counts `n` samples of the same latency: a message to a thousand receivers is counted once, with `n` = 1000.
    pub(crate) fn record(&self, us: u64, n: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(n);
        self.sum_us.add(us.saturating_mul(n));
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardCounters {
    /// Gauge: sockets of this shard, including those that are being handed to it. The hub assigns a new socket to the
    /// shard with the fewest.
    pub(crate) connections: Counter,
    /// Gauge: connections that have shown no token yet.
    pub(crate) unauthenticated: Counter,
    /// Connections without a token that were closed to make room.
    pub(crate) unauthenticated_evictions: Counter,
    /// Gauge: bytes held for messages of clients that have begun and not ended.
    pub(crate) inbound: Counter,
    /// Connections closed because the messages of clients that had begun held too many bytes together.
    pub(crate) inbound_evictions: Counter,
    /// Connections closed because a message took too long from its first byte to its last.
    pub(crate) message_timeouts: Counter,
    /// Gauge: subscriptions of its sessions.
    pub(crate) subscriptions: Counter,
    /// Frames received from clients.
    pub(crate) frames_in: Counter,
    /// Message frames put into outboxes as they arrived, one per receiver. Messages read from history for one client
    /// are not counted.
    pub(crate) deliveries: Counter,
    /// Bytes written by `write(2)`.
    pub(crate) bytes_out: Counter,
    /// Number of calls of `write(2)`.
    pub(crate) writes: Counter,
    /// Error frames sent to clients, in the order of [`ErrorCode::ALL`].
    pub(crate) errors: CountersByCode<{ ErrorCode::ALL.len() }>,
    /// Connections that this shard has closed, in the order of [`Close::ALL`].
    pub(crate) closes: CountersByCode<{ Close::ALL.len() }>,
    /// Gap frames sent to clients.
    pub(crate) gaps: Counter,
    /// Gauge: bytes that wait for blocked sockets, including the cost of listing them.
    pub(crate) backlog: Counter,
    /// Gauge: clients that read too slowly for live delivery and have not caught up yet.
    pub(crate) slow_clients: Counter,
    /// Slow clients that caught up and are live again.
    pub(crate) slow_catch_ups: Counter,
    /// How often queued messages of a client were evicted, because too much data waited for all clients together.
    pub(crate) slow_evictions: Counter,
    /// Messages that were not sent to a slow client, because newer messages of their topic arrived.
    pub(crate) superseded: Counter,
    /// Connections closed because the client read too slowly.
    pub(crate) slow_closes: Counter,
    /// Clients sent to emptier instances.
    pub(crate) rebalanced: Counter,
    /// Time from publishing, by Redis' clock, to the write pass of the shard. It needs synchronised clocks across
    /// hosts.
    pub(crate) latency: Histogram,
    /// Time from a ping to its pong, in whole milliseconds.
    pub(crate) rtt: Histogram,
}

/// The counters of presence.
#[derive(Debug, Default)]
pub(crate) struct PresenceCounters {
    /// Gauge: members with a connection to this instance, over all scopes.
    pub(crate) members: Counter,
    /// Gauge: scopes that at least one client watches.
    pub(crate) watched: Counter,
    /// Members that joined, as received while any scope was watched.
    pub(crate) joined: Counter,
    /// Members that left, as received while any scope was watched.
    pub(crate) left: Counter,
    /// Lists of members read.
    pub(crate) lists: Counter,
    /// How often all watched scopes were listed again.
    pub(crate) resyncs: Counter,
}

/// The counters of the pump.
#[derive(Debug, Default)]
pub(crate) struct PumpCounters {
    /// Gauge: 1 while the broker is connected in both directions.
    pub(crate) broker_up: Counter,
    /// How often the broker was lost.
    pub(crate) broker_downs: Counter,
    /// Gauge: scopes that this instance is subscribed to.
    pub(crate) scopes: Counter,
    /// Messages received from the broker.
    pub(crate) messages_in: Counter,
    /// Messages dropped because they did not have the documented format.
    pub(crate) messages_bad: Counter,
    /// Messages published by this instance's clients and acknowledged by the broker.
    pub(crate) publishes: Counter,
    /// Messages of this instance's clients that only its own members received, because the broker was away.
    pub(crate) local: Counter,
    /// Acknowledged messages that had been published before under the same id.
    pub(crate) publish_duplicates: Counter,
    /// Publishes that were refused or not answered.
    pub(crate) publish_errors: Counter,
    /// Publishes for which it is unknown whether they were stored.
    pub(crate) publish_unknowns: Counter,
    /// Reads of history, for resumes and repairs.
    pub(crate) history_reads: Counter,
    /// Messages that this instance missed, read from history and delivered.
    pub(crate) repaired: Counter,
    /// Repaired messages that only a check found.
    pub(crate) check_repaired: Counter,
    /// Scopes compared with the broker.
    pub(crate) checks: Counter,
    /// Checks in which the scope's position differed from the broker's.
    pub(crate) check_holes: Counter,
    /// Holes in a scope that this instance could not repair and announced to all its subscribers.
    pub(crate) scope_gaps: Counter,
    /// Subscriptions that ended while the broker was up.
    pub(crate) subscriptions_lost: Counter,
}

/// The counters of the edge.
#[derive(Debug, Default)]
pub(crate) struct EdgeCounters {
    /// Sockets accepted on the main port.
    pub(crate) accepts: Counter,
    /// Accepts that failed because of missing descriptors or memory.
    pub(crate) accept_errors: Counter,
    /// Requests that did not end in time.
    pub(crate) timeouts: Counter,
    /// TLS handshakes that failed on the main port.
    pub(crate) tls_errors: Counter,
    /// Connections whose HTTP was invalid, or that ended before an answer.
    pub(crate) http_errors: Counter,
    /// Requests refused with an HTTP status.
    pub(crate) http_refusals: Counter,
    /// Requests whose head came too slowly while places were short.
    pub(crate) heads_evicted: Counter,
    /// Clients refused because their address had too many connections or attempts.
    pub(crate) addresses_refused: Counter,
    /// Event streams handed to a shard.
    pub(crate) event_streams: Counter,
    /// Upgrades handed to a shard, including the refused ones.
    pub(crate) upgrades: Counter,
    /// Upgrades answered 101 and then refused, including those refused because the instance was full.
    pub(crate) upgrades_refused: Counter,
    /// Upgrades refused because the instance was full.
    pub(crate) upgrades_full: Counter,
    /// Upgrades that waited in the admission queue.
    pub(crate) upgrades_queued: Counter,
    /// Upgrades refused because too many waited.
    pub(crate) upgrades_throttled: Counter,
    /// Upgrades that the load balancer is to send to another instance.
    pub(crate) upgrades_diverted: Counter,
    /// How often clients that were sent to emptier instances came back here.
    pub(crate) rebalance_pauses: Counter,
}
