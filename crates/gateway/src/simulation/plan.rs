//! The plan of one run: everything that its seed decides before it begins.

use super::random::Random;

/// With an outbox of this size in bytes, clients that stall for seconds often fall behind.
const SMALL_OUTBOX: usize = 4 * 1024;
/// With an outbox of this size in bytes, they do not.
const LARGE_OUTBOX: usize = 256 * 1024;

/// Whether faults may cause losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Redis keeps everything, so every gap is an error.
    Lossless,
    /// Redis loses writes, erases data and lets it expire. Clients must get a gap for everything that is missing.
    Losing,
}

/// A planted bug on Redis' side, which the checks must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A failover begins no generation: positions are an epoch and an offset.
    OneGeneration,
    /// Generations are a counter.
    CountedGenerations,
    /// Messages are published before they are stored.
    PublishesFirst,
    /// Histories are read from the replica.
    ReadsReplica,
    /// A publish that was not answered is reported as not stored.
    RefusesUnknown,
}

impl Mutant {
    pub(super) const ALL: [Self; 5] =
        [Self::OneGeneration, Self::CountedGenerations, Self::PublishesFirst, Self::ReadsReplica, Self::RefusesUnknown];
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) mutant: Option<Mutant>,
    pub(super) instances: usize,
    pub(super) shards: usize,
    pub(super) clients: usize,
    /// Number of further clients that keep nothing but their session id.
    pub(super) restoring_clients: usize,
    /// Number of further clients that have event streams.
    pub(super) streaming_clients: usize,
    /// Duration of the phase with faults, in milliseconds.
    pub(super) faults_ms: u64,
    /// Mean time between two faults, in milliseconds.
    pub(super) fault_every_ms: u64,
    pub(super) page_entries_max: usize,
    pub(super) held_bytes_max: usize,
    pub(super) resync_scopes_max: usize,
    pub(super) linger_ms: u64,
    /// Limit of unsent data per client, in bytes.
    pub(super) outbox_bytes_max: usize,
    /// Largest number of messages in the history of a collection.
    pub(super) collection_entries_max: u32,
    pub(super) collection_ttl_ms: u64,
}

impl Plan {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>, outbox_bytes_max: Option<usize>, random: &mut Random) -> Self {
        let mode = if seed.is_multiple_of(2) { Mode::Lossless } else { Mode::Losing };
        let (entries_max, ttl_ms) = match mode {
            Mode::Lossless => (10_000, 60 * 60 * 1_000),
            Mode::Losing => (*random.pick(&[6, 12, 1_000]), *random.pick(&[4_000, 60_000, 60 * 60 * 1_000])),
        };
        Self {
            mode,
            mutant,
            instances: random.index(2) + 2,
            shards: random.index(2) + 1,
            clients: 6,
            restoring_clients: 2,
            streaming_clients: 2,
            faults_ms: 20_000,
            fault_every_ms: 180,
            page_entries_max: *random.pick(&[1, 2, 5, 512]),
            held_bytes_max: *random.pick(&[200, 4_000, 1_000_000]),
            resync_scopes_max: *random.pick(&[1, 2, 512]),
            linger_ms: *random.pick(&[50, 400, 2_000]),
            outbox_bytes_max: outbox_bytes_max.unwrap_or(if random.one_in(3) { SMALL_OUTBOX } else { LARGE_OUTBOX }),
            collection_entries_max: entries_max,
            collection_ttl_ms: ttl_ms,
        }
    }

    /// Returns the configuration of each instance, in the form that an operator writes.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let families = format!(
            "[{{ name = \"collection\", history_entries_max = {}, ttl_ms = {} }}, \
             {{ name = \"note\", history_entries_max = 0 }}]",
            self.collection_entries_max, self.collection_ttl_ms
        );
        vec![
            ("families", families),
            ("shards", self.shards.to_string()),
            ("limits.message_bytes_max", "1024".into()),
            ("limits.outbox_bytes_max", self.outbox_bytes_max.to_string()),
            ("limits.messages_per_second", "100000".into()),
            ("limits.messages_burst", "100000".into()),
            ("limits.ping_interval_ms", "5000".into()),
            ("limits.pong_timeout_ms", "3000".into()),
        ]
    }
}
