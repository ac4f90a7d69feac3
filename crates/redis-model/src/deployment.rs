//! Redis nodes, and replication between them, which runs only as far as the caller lets it.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::changes::{ReplicatedChange, Write};
use crate::function::{Call, FunctionReply, FunctionRun, Refusal};
use crate::keys::Families;
use crate::node::{Connection, Loses, Node, Role};
use crate::replication_id::ReplicationId;

/// The index of a node in its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// One message pushed to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The connection of the subscriber.
    pub connection: Connection,
    /// Text of the scope, `tenant/family:id`.
    pub scope: Box<str>,
    /// The envelope, as bytes.
    pub payload: Bytes,
}

/// Some nodes and the replication between them. At the start each node is a primary without replicas.
#[derive(Debug, Clone)]
pub struct Deployment {
    families: Families,
    nodes: Vec<Node>,
    /// For each replica: its primary, and the changes that it has not received yet.
    feeds: Vec<Option<Feed>>,
}

#[derive(Debug, Clone)]
struct Feed {
    primary: NodeIndex,
    waiting: VecDeque<Rc<ReplicatedChange>>,
}

impl Deployment {
    /// Creates one primary for each replication id. A leaf of a stream has at most `leaf_entries_max` entries
    /// (`stream-node-max-entries`).
    #[must_use]
    pub fn new(families: Families, ids: &[ReplicationId], leaf_entries_max: usize) -> Self {
        let nodes = ids.iter().map(|id| Node::new(*id, leaf_entries_max)).collect();
        Self { families, nodes, feeds: vec![None; ids.len()] }
    }

    /// One node of the deployment, read-only.
    #[must_use]
    pub fn node(&self, at: NodeIndex) -> &Node {
        &self.nodes[at.0]
    }

    /// One node of the deployment, for changes.
    pub fn node_mut(&mut self, at: NodeIndex) -> &mut Node {
        &mut self.nodes[at.0]
    }

    /// The primary that a replica follows. None for a primary, and for a replica that has lost its primary.
    #[must_use]
    pub fn followed(&self, replica: NodeIndex) -> Option<NodeIndex> {
        self.feeds[replica.0].as_ref().map(|feed| feed.primary)
    }

    /// The number of changes that a replica has not received yet.
    #[must_use]
    pub fn lag(&self, replica: NodeIndex) -> usize {
        self.feeds[replica.0].as_ref().map_or(0, |feed| feed.waiting.len())
    }

    /// Runs a function. `now_ms` is the clock of the node.
    ///
    /// # Errors
    /// Returns the refusal that Redis would give.
    pub fn call(
        &mut self,
        at: NodeIndex,
        scope: &str,
        call: Call,
        now_ms: u64,
        out: &mut Vec<Push>,
    ) -> Result<FunctionReply, Refusal> {
        let node = &mut self.nodes[at.0];
        if node.role() == Role::Replica && !matches!(call, Call::Read { .. }) {
            return Err(Refusal::ReadOnly);
        }
        if node.is_full && matches!(call, Call::Publish(_) | Call::PublishOnce(_) | Call::Open { .. }) {
            return Err(Refusal::OutOfMemory);
        }
        let retention = self.families.of(scope).ok_or(Refusal::NoFamily)?;
        let mut run = FunctionRun::new(node, scope, retention, now_ms);
        let answer = run.run(call);
        let changes = run.finish();
        self.spread(at, changes, out);
        answer
    }

    /// A PUBLISH by a client that does not use the library. It reaches the subscribers of replicas too.
    pub fn publish_bare(&mut self, at: NodeIndex, scope: &str, payload: Bytes, out: &mut Vec<Push>) {
        let change = ReplicatedChange::Publish(scope.into(), payload);
        match self.nodes[at.0].role() {
            Role::Primary => self.spread(at, vec![change], out),
            // A replica accepts it, and does not pass it on.
            Role::Replica => self.carry_out(at, &change, out),
        }
    }

    /// FLUSHALL on a primary.
    pub fn erase_all(&mut self, at: NodeIndex, out: &mut Vec<Push>) {
        self.nodes[at.0].erase_all();
        self.spread(at, vec![ReplicatedChange::EraseAll], out);
    }

    /// Erases the metadata of a scope, as by expiry.
    pub fn erase_meta(&mut self, at: NodeIndex, scope: &str, out: &mut Vec<Push>) {
        self.erase(at, scope, Write::EraseMeta, out);
    }

    /// Erases the stream of a scope, as by expiry.
    pub fn erase_stream(&mut self, at: NodeIndex, scope: &str, out: &mut Vec<Push>) {
        self.erase(at, scope, Write::EraseStream, out);
    }

    /// Sends a replica up to `changes_max` of its waiting changes.
    pub fn replicate(&mut self, replica: NodeIndex, changes_max: usize, out: &mut Vec<Push>) {
        for _ in 0..changes_max {
            let Some(change) = self.feeds[replica.0].as_mut().and_then(|feed| feed.waiting.pop_front()) else { return };
            self.carry_out(replica, &change, out);
        }
    }

    /// REPLICAOF: the replica becomes a copy of the primary. `id` becomes the replication id of the primary if this is
    /// its first replica.
    pub fn follow(&mut self, replica: NodeIndex, primary: NodeIndex, id: ReplicationId) {
        assert_ne!(replica, primary, "nobody follows itself");
        assert_eq!(self.node(primary).role(), Role::Primary, "replicas of replicas are not modelled");
        self.leave_alone(replica);
        let source = &mut self.nodes[primary.0];
        if !std::mem::replace(&mut source.has_backlog, true) {
            source.set_replication_id(id);
        }
        let source = source.clone();
        self.nodes[replica.0].copy(&source);
        self.feeds[replica.0] = Some(Feed { primary, waiting: VecDeque::new() });
    }

    /// A replica continues with its primary, which was restarted without a loss. Nothing is copied, and the replica
    /// keeps its own snapshot.
    pub fn resume(&mut self, replica: NodeIndex, primary: NodeIndex) {
        let source = &mut self.nodes[primary.0];
        source.has_backlog = true;
        let id = source.replication_id();
        self.nodes[replica.0].set_replication_id(id);
        self.feeds[replica.0] = Some(Feed { primary, waiting: VecDeque::new() });
    }

    /// REPLICAOF NO ONE: the changes that the replica has not received are lost. A primary stays as it is.
    pub fn promote(&mut self, replica: NodeIndex, id: ReplicationId) {
        if self.node(replica).role() == Role::Replica {
            self.feeds[replica.0] = None;
            self.nodes[replica.0].become_primary(id);
        }
    }

    /// The process ends and is restarted as a primary of its own. Returns the connections that were closed.
    pub fn restart(&mut self, at: NodeIndex, loses: Loses, id: ReplicationId) -> Vec<Connection> {
        self.leave_alone(at);
        self.feeds[at.0] = None;
        let cut = self.nodes[at.0].restart(loses, id);
        self.nodes[at.0].become_primary(id);
        cut
    }

    /// The replicas of this node have lost their primary.
    fn leave_alone(&mut self, at: NodeIndex) {
        for feed in &mut self.feeds {
            if feed.as_ref().is_some_and(|feed| feed.primary == at) {
                *feed = None;
            }
        }
    }

    fn erase(&mut self, at: NodeIndex, scope: &str, write: Write, out: &mut Vec<Push>) {
        if self.nodes[at.0].write(scope, &write) {
            self.spread(at, vec![ReplicatedChange::Scope(scope.into(), vec![write])], out);
        }
    }

    /// Distributes the changes of a primary: its own subscribers receive them now, its replicas when they are
    /// replicated.
    fn spread(&mut self, at: NodeIndex, changes: Vec<ReplicatedChange>, out: &mut Vec<Push>) {
        for change in changes {
            if let ReplicatedChange::Publish(scope, payload) = &change {
                self.push_to_subscribers(at, scope, payload, out);
            }
            let change = Rc::new(change);
            for feed in self.feeds.iter_mut().flatten().filter(|feed| feed.primary == at) {
                feed.waiting.push_back(Rc::clone(&change));
            }
        }
    }

    /// A replica carries out a change of its primary.
    fn carry_out(&mut self, at: NodeIndex, change: &ReplicatedChange, out: &mut Vec<Push>) {
        match change {
            ReplicatedChange::Publish(scope, payload) => self.push_to_subscribers(at, scope, payload, out),
            ReplicatedChange::EraseAll => self.nodes[at.0].erase_all(),
            ReplicatedChange::Scope(scope, writes) => {
                for write in writes {
                    self.nodes[at.0].write(scope, write);
                }
            }
        }
    }

    fn push_to_subscribers(&self, at: NodeIndex, scope: &str, payload: &Bytes, out: &mut Vec<Push>) {
        let push = |connection| Push { connection, scope: scope.into(), payload: payload.clone() };
        out.extend(self.nodes[at.0].receivers(scope).map(push));
    }
}
