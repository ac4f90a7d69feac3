//! The keys of a scope, and how long a family keeps what is in them.

use std::collections::BTreeMap;

use wire::Position;

use crate::node::ReplicationId;
use crate::stream::Stream;

/// How much longer than its stream a scope's metadata lives.
const META_GRACE_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// A message's id is known for so long at least, and for twice as long at most.
pub(crate) const ID_WINDOW_MS: u64 = 120_000;

/// What a family keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For how long.
    pub ttl_ms: u64,
    /// About how many; 0 for none.
    pub entries_max: usize,
}

impl Retention {
    /// How often upkeep is due.
    pub(crate) fn step_ms(&self) -> u64 {
        (self.ttl_ms / 8).max(1)
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
    /// These.
    pub fn new<'f>(families: impl IntoIterator<Item = (&'f str, Retention)>) -> Self {
        Self(families.into_iter().map(|(name, retention)| (name.into(), retention)).collect())
    }

    /// Of a scope written `tenant/family:id` or `tenant/family`.
    pub(crate) fn of(&self, scope: &str) -> Option<Retention> {
        let (_, name) = scope.split_once('/')?;
        let family = name.split_once(':').map_or(name, |(family, _)| family);
        self.0.get(family).copied()
    }
}

/// The metadata hash of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Under which the generation was begun.
    pub replication_id: ReplicationId,
    /// The generation.
    pub generation: u64,
    /// The newest offset handed out in it.
    pub offset: u64,
    /// Earlier generations and their newest offsets, oldest first.
    pub earlier: Vec<Position>,
    /// Those of them that have lost messages which somebody had been handed.
    pub torn: Vec<u64>,
    /// When upkeep is due.
    pub due_ms: Option<u64>,
    /// All up to the position had been stored by then. Oldest first.
    pub marks: Vec<(u64, Position)>,
    /// The newest window of time in which a message came with an id.
    pub ids_window: Option<u64>,
}

impl Meta {
    /// The newest position handed out.
    #[must_use]
    pub fn top(&self) -> Position {
        Position::new(self.generation, self.offset)
    }
}

/// A key with a time to live.
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

/// What Redis has of one scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) stream: Option<Key<Stream>>,
    pub(crate) meta: Option<Key<Meta>>,
    /// Ids of messages and where those stand: of even windows of time, and of odd ones.
    pub(crate) ids: [Option<Key<Ids>>; 2],
}

pub(crate) type Ids = BTreeMap<Box<str>, Position>;
