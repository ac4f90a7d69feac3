//! Asks whether a replica has what was stored, for publishers who want to know.
//!
//! ```text
//!   stored ─▶ │ waiting … │ ─▶ SET mark, WAIT 1 ═▶ Redis     on a connection of its own
//! ```
//!
//! WAIT blocks its connection, so that is not the one the calls go over; and it looks no further than the last write
//! of its own connection, so a write goes before it: the mark. Replication is one stream. A replica that has the mark
//! has everything that was stored before it, by whatever connection, and one question serves all who came before it.
//!
//! The connection is opened with the link and ends it when it breaks. A later one might reach a server that never had
//! what was stored.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis_topology::CommandError;
use tokio::time::timeout;
use wire::Scope;

use crate::broker::{Stored, Ticket};

/// The mark means nothing once WAIT has been answered.
const MARK_TTL_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Replicas {
    connection: MultiplexedConnection,
    /// How long a replica may take.
    patience: Duration,
    /// How long Redis may take beyond that.
    deadline: Duration,
    /// Stored since the question under way was asked, and the newest one's scope.
    waiting: Vec<(Ticket, Stored)>,
    scope: Option<Scope>,
    /// Whom the question under way is for.
    asking: Vec<(Ticket, Stored)>,
}

/// A question to be asked; it goes to a task.
#[derive(Debug)]
pub(super) struct ReplicaQuery {
    connection: MultiplexedConnection,
    /// Where to put the mark: it goes to the same primary as what was stored.
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

    /// The next question, unless one is under way or nobody wants to know.
    pub(super) fn begin(&mut self) -> Option<ReplicaQuery> {
        if !self.asking.is_empty() {
            return None;
        }
        let scope = self.scope.take()?;
        self.asking = std::mem::take(&mut self.waiting);
        let Self { connection, patience, deadline, .. } = self;
        Some(ReplicaQuery { connection: connection.clone(), scope, patience: *patience, deadline: *deadline })
    }

    /// Whom the answer is for.
    pub(super) fn finish(&mut self) -> Vec<(Ticket, Stored)> {
        std::mem::take(&mut self.asking)
    }

    /// All who still want to know.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = (Ticket, Stored)> {
        self.asking.into_iter().chain(self.waiting)
    }
}

impl ReplicaQuery {
    /// Whether at least one replica has it all.
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
