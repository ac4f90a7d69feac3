//! The keys of a scope, and how long a family keeps them.

use std::collections::BTreeMap;

use wire::Position;

use crate::replication_id::ReplicationId;
use crate::stream::{Stream, Trim};

/// How much longer than its stream the metadata of a scope is kept.
const META_GRACE_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// How long the metadata of a scope without a message is kept after it was begun or opened.
pub(crate) const UNUSED_MS: u64 = 60 * 60 * 1_000;
/// The shortest time for which a publish id is known, in ms. The longest time is twice as long.
pub(crate) const ID_WINDOW_MS: u64 = 120_000;

/// A family that keeps this many entries or fewer keeps exactly its number of them after each publishing call.
const EXACT_ENTRIES_MAX: usize = 200;

/// The retention of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long messages are kept, in ms.
    pub ttl_ms: u64,
    /// How many messages of a scope are kept: exactly up to 200, approximately above that; 0 for none.
    pub entries_max: usize,
}

impl Retention {
    /// Time between two runs of upkeep.
    pub(crate) fn step_ms(&self) -> u64 {
        (self.ttl_ms / 8).max(1)
    }

    /// How the last XADD of a call trims; nothing in a family without history.
    pub(crate) fn trim(&self) -> Option<Trim> {
        match self.entries_max {
            0 => None,
            most @ 1..=EXACT_ENTRIES_MAX => Some(Trim::Exactly(most)),
            most => Some(Trim::About(most)),
        }
    }

    pub(crate) fn stream_ms(&self) -> u64 {
        self.ttl_ms + self.step_ms()
    }

    pub(crate) fn meta_ms(&self) -> u64 {
        self.stream_ms() + META_GRACE_MS
    }
}

/// The families of a deployment, by name.
#[derive(Debug, Clone)]
pub struct Families(BTreeMap<Box<str>, Retention>);

impl Families {
    /// Creates the table from names and retentions.
    pub fn new<'f>(families: impl IntoIterator<Item = (&'f str, Retention)>) -> Self {
        Self(families.into_iter().map(|(name, retention)| (name.into(), retention)).collect())
    }

    /// The retention of a scope, written `tenant/family:id` or `tenant/family`.
    pub(crate) fn of(&self, scope: &str) -> Option<Retention> {
        let (_, name) = scope.split_once('/')?;
        let family = name.split_once(':').map_or(name, |(family, _)| family);
        self.0.get(family).copied()
    }
}

/// The metadata hash of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The replication id under which the generation was begun.
    pub replication_id: ReplicationId,
    /// The generation in which messages are stored now.
    pub generation: u64,
    /// The newest offset given out in the generation.
    pub offset: u64,
    /// Earlier generations with their newest offsets, oldest first.
    pub earlier: Vec<Position>,
    /// The earlier generations that lost messages after they had been delivered.
    pub torn: Vec<u64>,
    /// Time when upkeep is due.
    pub due_ms: Option<u64>,
    /// Times (ms) and positions: every message up to the position was stored by that time. Oldest first.
    pub marks: Vec<(u64, Position)>,
    /// The newest window in which a message had an id.
    pub ids_window: Option<u64>,
}

impl Meta {
    /// The newest position given out.
    #[must_use]
    pub fn top(&self) -> Position {
        Position::new(self.generation, self.offset)
    }
}

/// A key with its time of expiry.
#[derive(Debug, Clone)]
pub(crate) struct Key<T> {
    pub(crate) value: T,
    pub(crate) expires_ms: Option<u64>,
}

impl<T> Key<T> {
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| now_ms > expires_ms)
    }
}

/// The keys of one scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) stream: Option<Key<Stream>>,
    pub(crate) meta: Option<Key<Meta>>,
    /// Publish ids and the positions of their messages: for even windows of time and for odd ones.
    pub(crate) ids: [Option<Key<Ids>>; 2],
}

pub(crate) type Ids = BTreeMap<Box<str>, Position>;
