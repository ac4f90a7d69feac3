//! Asks whether a replica has stored messages, for publishes with `acknowledge = "replicated"`.
//!
//! ```text
//!   stored ─▶ │ waiting … │ ─▶ SET mark, WAIT 1 ═▶ Redis     on a connection of its own
//! ```
//!
//! WAIT blocks its connection, so it has one of its own. WAIT counts replicas that have the last write of the same
//! connection, so a write goes before it: the mark. Replication is one stream: a replica that has the mark has
//! everything that was stored before it over any connection. So one question serves all publishes before it.
//!
//! The connection is opened with the connection pair, and the pair ends when it breaks. A later connection might reach
//! a server that never had the messages.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis_topology::CommandError;
use tokio::time::timeout;
use wire::Scope;

use crate::broker::{Stored, Ticket};

/// Lifetime of the mark in ms. It is of no use once WAIT has been answered.
const MARK_TTL_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Replicas {
    connection: MultiplexedConnection,
    /// How long a replica may take.
    patience: Duration,
    /// How long Redis may take beyond that.
    deadline: Duration,
    /// Publishes stored since the running question was asked, and the scope of the newest one.
    waiting: Vec<(Ticket, Stored)>,
    scope: Option<Scope>,
    /// Publishes that the running question is for.
    asking: Vec<(Ticket, Stored)>,
}

/// A question to be asked, which runs in a task of its own.
#[derive(Debug)]
pub(super) struct ReplicaQuery {
    connection: MultiplexedConnection,
    /// The mark is written beside this scope's keys, so that it goes to the same primary as the messages.
    pub(super) scope: Scope,
    patience: Duration,
    deadline: Duration,
}

// === impl Replicas ===

impl Replicas {
    pub(super) fn new(connection: MultiplexedConnection, patience: Duration, deadline: Duration) -> Self {
        Self { connection, patience, deadline, waiting: Vec::new(), scope: None, asking: Vec::new() }
    }

    pub(super) fn push(&mut self, ticket: Ticket, stored: Stored, scope: &Scope) {
        self.waiting.push((ticket, stored));
        self.scope = Some(scope.clone());
    }

    /// Returns the next question, unless one is running or no publish waits.
    pub(super) fn begin(&mut self) -> Option<ReplicaQuery> {
        if !self.asking.is_empty() {
            return None;
        }
        let scope = self.scope.take()?;
        self.asking = std::mem::take(&mut self.waiting);
        let Self { connection, patience, deadline, .. } = self;
        Some(ReplicaQuery { connection: connection.clone(), scope, patience: *patience, deadline: *deadline })
    }

    /// Takes the publishes that the answered question was for.
    pub(super) fn finish(&mut self) -> Vec<(Ticket, Stored)> {
        std::mem::take(&mut self.asking)
    }

    /// All publishes that still wait.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = (Ticket, Stored)> {
        self.asking.into_iter().chain(self.waiting)
    }
}

impl ReplicaQuery {
    /// Asks whether at least one replica has everything.
    pub(super) async fn ask(mut self, mark: &str) -> Result<bool, CommandError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(mark).arg("").arg("PX").arg(MARK_TTL_MS).ignore();
        let patience_ms = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("WAIT").arg(1).arg(patience_ms);
        let answer = timeout(self.patience + self.deadline, pipeline.query_async(&mut self.connection)).await;
        let (replicas,): (u32,) = answer.map_err(|_| CommandError::Late)??;
        Ok(replicas > 0)
    }
}
