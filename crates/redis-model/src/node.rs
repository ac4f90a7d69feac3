//! One Redis process: its data, its replication id, who is subscribed, and what it forgets when it ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Write;
use crate::keys::{Keys, Meta};
use crate::stream::Stream;

/// What `master_replid` begins with: as much as tells two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicationId(pub u64);

impl ReplicationId {
    /// Of its hexadecimal text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text.get(..16)?, 16).ok().map(Self)
    }

    /// The first 16 bits, which stand in a generation.
    pub(crate) fn bits(self) -> u64 {
        self.0 >> 48
    }
}

/// A client's connection to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// What a node is told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It takes what another sends.
    Replica,
}

/// What a process loses when it ends and is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loses {
    /// Nothing: it keeps a log of every write.
    Nothing,
    /// What was written after the last snapshot.
    SinceSnapshot,
    /// Everything.
    Everything,
}

/// One Redis.
#[derive(Debug, Clone)]
pub struct Node {
    role: Role,
    replication_id: ReplicationId,
    /// A primary takes a new replication id when its first replica comes.
    pub(crate) has_backlog: bool,
    keys: BTreeMap<Box<str>, Keys>,
    snapshot: BTreeMap<Box<str>, Keys>,
    /// Generations the library began and the clock has not passed, by scope; gone with the library.
    begun: BTreeMap<Box<str>, u64>,
    begun_second: u64,
    subscribers: BTreeMap<Connection, BTreeSet<Box<str>>>,
    /// It has no memory left for writes.
    pub is_full: bool,
    leaf_entries_max: usize,
}

impl Node {
    pub(crate) fn new(replication_id: ReplicationId, leaf_entries_max: usize) -> Self {
        Self {
            role: Role::Primary,
            replication_id,
            has_backlog: false,
            keys: BTreeMap::new(),
            snapshot: BTreeMap::new(),
            begun: BTreeMap::new(),
            begun_second: 0,
            subscribers: BTreeMap::new(),
            is_full: false,
            leaf_entries_max,
        }
    }

    /// Primary or replica.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its `master_replid`.
    #[must_use]
    pub fn replication_id(&self) -> ReplicationId {
        self.replication_id
    }

    /// The metadata of a scope, expired or not.
    #[must_use]
    pub fn meta(&self, scope: &str) -> Option<&Meta> {
        self.keys.get(scope).and_then(|keys| keys.meta.as_ref()).map(|key| &key.value)
    }

    /// What it keeps of a scope, expired or not.
    #[must_use]
    pub fn stream(&self, scope: &str) -> Option<&Stream> {
        self.keys.get(scope).and_then(|keys| keys.stream.as_ref()).map(|key| &key.value)
    }

    /// Who hears a scope.
    pub fn hearers(&self, scope: &str) -> impl Iterator<Item = Connection> {
        self.subscribers.iter().filter(move |(_, scopes)| scopes.contains(scope)).map(|(connection, _)| *connection)
    }

    /// SUBSCRIBE.
    pub fn subscribe(&mut self, connection: Connection, scope: &str) {
        self.subscribers.entry(connection).or_default().insert(scope.into());
    }

    /// UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, connection: Connection, scope: &str) {
        if let Some(scopes) = self.subscribers.get_mut(&connection) {
            scopes.remove(scope);
        }
    }

    /// The connection has ended.
    pub fn close(&mut self, connection: Connection) {
        self.subscribers.remove(&connection);
    }

    /// CLIENT KILL TYPE pubsub: who was cut.
    pub fn kill_subscribers(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.subscribers).into_keys().collect()
    }

    /// SAVE.
    pub fn save(&mut self) {
        self.snapshot.clone_from(&self.keys);
    }

    /// FUNCTION FLUSH, and loading the library anew: what it remembered is gone.
    pub fn forget_library(&mut self) {
        self.begun.clear();
        self.begun_second = 0;
    }

    /// The process ends and begins again under a new replication id. All connections are cut.
    pub(crate) fn restart(&mut self, loses: Loses, replication_id: ReplicationId) -> Vec<Connection> {
        match loses {
            Loses::Nothing => {}
            Loses::SinceSnapshot => self.keys.clone_from(&self.snapshot),
            Loses::Everything => {
                self.keys.clear();
                self.snapshot.clear();
            }
        }
        self.replication_id = replication_id;
        self.has_backlog = false;
        self.forget_library();
        self.kill_subscribers()
    }

    /// It becomes a copy of `primary`.
    pub(crate) fn copy(&mut self, primary: &Self) {
        self.role = Role::Replica;
        self.replication_id = primary.replication_id;
        self.has_backlog = true;
        self.keys.clone_from(&primary.keys);
        // What it was sent lies on its disk as its own snapshot.
        self.snapshot.clone_from(&primary.keys);
        self.forget_library();
    }

    pub(crate) fn become_primary(&mut self, replication_id: ReplicationId) {
        self.role = Role::Primary;
        self.replication_id = replication_id;
    }

    pub(crate) fn set_replication_id(&mut self, replication_id: ReplicationId) {
        self.replication_id = replication_id;
    }

    pub(crate) fn erase_all(&mut self) {
        self.keys.clear();
    }

    pub(crate) fn keys(&self, scope: &str) -> Option<&Keys> {
        self.keys.get(scope)
    }

    pub(crate) fn write(&mut self, scope: &str, write: &Write) -> bool {
        if !self.keys.contains_key(scope) {
            self.keys.insert(scope.into(), Keys::default());
        }
        let keys = self.keys.get_mut(scope).expect("just seen to");
        write.apply(keys, self.leaf_entries_max)
    }

    /// The generation begun here for a scope that the clock has not passed; 0 for none.
    pub(crate) fn begun(&self, scope: &str) -> u64 {
        self.begun.get(scope).copied().unwrap_or(0)
    }

    pub(crate) fn remember(&mut self, scope: &str, generation: u64, second: u64) {
        if second != self.begun_second {
            self.begun.retain(|_, begun| *begun >= second << 16);
            self.begun_second = second;
        }
        self.begun.insert(scope.into(), generation);
    }
}
