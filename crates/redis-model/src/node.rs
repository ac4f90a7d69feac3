//! One Redis process: its data, its replication id, its subscribers, and what it loses when it ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Write;
use crate::keys::{Keys, Meta};
use crate::replication_id::ReplicationId;
use crate::stream::Stream;

/// The connection of a client to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// The role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The node accepts writes.
    Primary,
    /// The node receives the changes of its primary.
    Replica,
}

/// What a process loses when it ends and is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loses {
    /// Nothing: it logs every write.
    Nothing,
    /// Everything written after the last snapshot.
    SinceSnapshot,
    /// All data, the snapshot included.
    Everything,
}

/// One Redis process with its data.
#[derive(Debug, Clone)]
pub struct Node {
    role: Role,
    replication_id: ReplicationId,
    /// A primary gets a new replication id when its first replica connects.
    pub(crate) has_backlog: bool,
    keys: BTreeMap<Box<str>, Keys>,
    snapshot: BTreeMap<Box<str>, Keys>,
    /// The generations that the library has begun and the clock has not passed, by scope. They are lost with the
    /// library.
    begun: BTreeMap<Box<str>, u64>,
    begun_second: u64,
    subscribers: BTreeMap<Connection, BTreeSet<Box<str>>>,
    /// The node has no memory left for writes.
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

    /// The role of the node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The `master_replid` of the node.
    #[must_use]
    pub fn replication_id(&self) -> ReplicationId {
        self.replication_id
    }

    /// The metadata of a scope, expired or not.
    #[must_use]
    pub fn meta(&self, scope: &str) -> Option<&Meta> {
        self.keys.get(scope).and_then(|keys| keys.meta.as_ref()).map(|key| &key.value)
    }

    /// The time at which the metadata of a scope expires, in ms; none if it is kept for ever or does not exist.
    #[must_use]
    pub fn meta_expires_ms(&self, scope: &str) -> Option<u64> {
        self.keys.get(scope).and_then(|keys| keys.meta.as_ref()).and_then(|key| key.expires_ms)
    }

    /// The stream of a scope, expired or not.
    #[must_use]
    pub fn stream(&self, scope: &str) -> Option<&Stream> {
        self.keys.get(scope).and_then(|keys| keys.stream.as_ref()).map(|key| &key.value)
    }

    /// The subscribers of a scope.
    pub fn receivers(&self, scope: &str) -> impl Iterator<Item = Connection> {
        self.subscribers.iter().filter(move |(_, scopes)| scopes.contains(scope)).map(|(connection, _)| *connection)
    }

    /// SUBSCRIBE of a connection to one scope.
    pub fn subscribe(&mut self, connection: Connection, scope: &str) {
        self.subscribers.entry(connection).or_default().insert(scope.into());
    }

    /// UNSUBSCRIBE of a connection from one scope.
    pub fn unsubscribe(&mut self, connection: Connection, scope: &str) {
        if let Some(scopes) = self.subscribers.get_mut(&connection) {
            scopes.remove(scope);
        }
    }

    /// Removes a connection that has ended, with its subscriptions.
    pub fn close(&mut self, connection: Connection) {
        self.subscribers.remove(&connection);
    }

    /// CLIENT KILL TYPE pubsub. Returns the connections that were closed.
    pub fn kill_subscribers(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.subscribers).into_keys().collect()
    }

    /// SAVE: takes a snapshot of all keys.
    pub fn save(&mut self) {
        self.snapshot.clone_from(&self.keys);
    }

    /// FUNCTION FLUSH and a new load of the library: its memory of begun generations is lost.
    pub fn forget_library(&mut self) {
        self.begun.clear();
        self.begun_second = 0;
    }

    /// The process ends and is restarted with a new replication id. Returns the connections that were closed.
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

    /// Becomes a copy of `primary`.
    pub(crate) fn copy(&mut self, primary: &Self) {
        self.role = Role::Replica;
        self.replication_id = primary.replication_id;
        self.has_backlog = true;
        self.keys.clone_from(&primary.keys);
        // The transferred data is stored on disk as its own snapshot.
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

    /// The generation that was begun here for a scope and that the clock has not passed; 0 for none.
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
