//! Routes calls: to the one connection there is, or in a cluster to the node that has the scope's slot.
//!
//! ```text
//!   call ─▶ ClusterRouter: slot ─▶ node ─▶ its connection ═▶ node ─▶ answer
//!             ▲ └──(MOVED: the map is corrected)──┐            │
//!             └──(TRYAGAIN: a little later)───────┴────────────┤
//!                 ASKING, once, at the node named by ASK ◀─────┘
//! ```
//!
//! A redirected call was not carried out, so it is repeated here, and its caller does not notice. The next publish of
//! the scope waits in its queue meanwhile, so the order stays.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::HashMap;
use keyspace::{Keyspace, Placed, Slot};
use redis_topology::{ClusterMap, CommandError, Node, Redirection, Slots, open};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use wire::{Position, Scope};

use super::command_connection::CommandConnection;
use super::config::RedisBrokerConfig;
use super::connection_setup::{calls_max, library_loader};
use crate::broker::{Draft, History};

/// How a call finds its connection.
#[derive(Debug, Clone)]
pub(super) enum CallRoute {
    /// Over the only connection.
    One(CommandConnection),
    /// Over the connection of the node that has the scope's slot.
    Cluster(Arc<ClusterRouter>),
}

/// What is known of a cluster. Shared by its connection pairs and by running calls.
#[derive(Debug)]
pub(super) struct ClusterRouter {
    config: Arc<RedisBrokerConfig>,
    known: Mutex<Known>,
    /// Notified when the map has changed or is known to be wrong.
    pub(super) map_changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    slots: Slots,
    /// Command connections of the connection pairs that are up.
    command_connections: HashMap<Node, CommandConnection>,
    /// Connections to nodes that a redirection named and that have no connection pair yet.
    temporary: HashMap<Node, CommandConnection>,
}

// === impl CallRoute ===

impl CallRoute {
    pub(super) async fn publish(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        messages: &[Draft],
    ) -> Result<Vec<Placed>, CommandError> {
        match self {
            Self::One(command_connection) => command_connection.publish(keyspace, scope, messages).await,
            Self::Cluster(router) => {
                router
                    .route_call(keyspace.slot(scope), |command_connection| {
                        command_connection.publish(keyspace, scope, messages)
                    })
                    .await
            }
        }
    }

    pub(super) async fn read(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Result<History, CommandError> {
        match self {
            Self::One(command_connection) => command_connection.read(keyspace, scope, after, entries_max).await,
            Self::Cluster(router) => {
                router
                    .route_call(keyspace.slot(scope), |command_connection| {
                        command_connection.read(keyspace, scope, after, entries_max)
                    })
                    .await
            }
        }
    }

    pub(super) async fn lost(self, keyspace: &Keyspace, scope: &Scope, gone: Position) -> Result<(), CommandError> {
        match self {
            Self::One(command_connection) => command_connection.lost(keyspace, scope, gone).await,
            Self::Cluster(router) => {
                router
                    .route_call(keyspace.slot(scope), |command_connection| {
                        command_connection.lost(keyspace, scope, gone)
                    })
                    .await
            }
        }
    }

    /// In a cluster each node is asked for its own scopes, one node after the other.
    pub(super) async fn tops(
        self,
        keyspace: &Keyspace,
        scopes: &[Scope],
        renew: &[(usize, u64)],
    ) -> Result<Vec<Option<Position>>, CommandError> {
        let router = match self {
            Self::One(command_connection) => return command_connection.tops(keyspace, scopes, renew).await,
            Self::Cluster(router) => router,
        };
        let mut by_node: HashMap<Node, Vec<usize>> = HashMap::new();
        for (index, scope) in scopes.iter().enumerate() {
            by_node.entry(router.owner(keyspace.slot(scope))?).or_default().push(index);
        }
        let mut tops = vec![None; scopes.len()];
        for (node, indices) in by_node {
            let own: Vec<Scope> = indices.iter().map(|index| scopes[*index].clone()).collect();
            // The indices are sorted.
            let own_index = |(index, kept_ms): &(usize, u64)| Some((indices.binary_search(index).ok()?, *kept_ms));
            let own_renew: Vec<(usize, u64)> = renew.iter().filter_map(own_index).collect();
            let command_connection = router.command_connection(&node).ok_or_else(|| no_connection(&node))?;
            let answers = command_connection.tops(keyspace, &own, &own_renew).await;
            let answers = answers.inspect_err(|_| router.map_changed.notify_one())?;
            indices.into_iter().zip(answers).for_each(|(index, top)| tops[index] = top);
        }
        Ok(tops)
    }
}

// === impl ClusterRouter ===

impl ClusterRouter {
    pub(super) fn new(config: Arc<RedisBrokerConfig>) -> Self {
        Self { config, known: Mutex::default(), map_changed: Notify::new() }
    }

    /// Calls until the answer is no redirection, or no time is left for another attempt.
    async fn route_call<T, F: Future<Output = Result<T, CommandError>>>(
        &self,
        slot: Slot,
        call: impl Fn(CommandConnection) -> F,
    ) -> Result<T, CommandError> {
        let end = Instant::now() + Duration::from_millis(self.config.reply_deadline_ms);
        let node = self.owner(slot)?;
        let (mut command_connection, mut node) =
            (self.command_connection(&node).ok_or_else(|| no_connection(&node))?, node);
        loop {
            let error = match call(command_connection).await {
                Err(error) => error,
                answer => return answer,
            };
            if matches!(error, CommandError::Broken(_)) {
                self.known().temporary.remove(&node);
            }
            let Some(redirection) = Redirection::of(&error, &node, end) else { return Err(error) };
            let asking = matches!(redirection, Redirection::Ask(_));
            match redirection {
                Redirection::Moved(slot, to) => node = self.moved(slot, &node, &to),
                Redirection::Ask(to) => node = to,
                Redirection::Later => {
                    self.map_changed.notify_one();
                    sleep(Redirection::PAUSE).await;
                    node = self.owner(slot)?;
                }
            }
            command_connection = self.connect_to(&node).await?;
            if asking {
                command_connection = command_connection.asking();
            }
        }
    }

    /// The command connection of this node's connection pair, or a temporary one.
    async fn connect_to(&self, node: &Node) -> Result<CommandConnection, CommandError> {
        if let Some(command_connection) = self.command_connection(node) {
            return Ok(command_connection);
        }
        let info = self.config.target.info(node);
        let deadline = Duration::from_millis(self.config.reply_deadline_ms);
        // Nothing has been done when connecting fails, so the error is a refusal.
        let refused = |error: redis::RedisError| CommandError::Refused(format!("CLUSTERDOWN {node}: {error}"));
        let limits = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(deadline))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(calls_max(&self.config));
        let connection = open(info, &limits).await.map_err(refused)?;
        let command_connection =
            CommandConnection::new(connection, library_loader(&self.config), deadline, self.config.probe_interval_ms);
        // If two were opened at once, the first one stays, so that no publish overtakes another of its scope.
        Ok(self.known().temporary.entry(node.clone()).or_insert(command_connection).clone())
    }

    fn owner(&self, slot: Slot) -> Result<Node, CommandError> {
        let unserved = || CommandError::Refused(format!("CLUSTERDOWN no node serves slot {}", slot.number()));
        self.known().slots.owner(slot).cloned().ok_or_else(unserved)
    }

    fn command_connection(&self, node: &Node) -> Option<CommandConnection> {
        let known = self.known();
        known.command_connections.get(node).or_else(|| known.temporary.get(node)).cloned()
    }

    /// The node that serves a slot.
    pub(super) fn node_of(&self, slot: Slot) -> Option<Node> {
        self.known().slots.owner(slot).cloned()
    }

    /// The nodes that serve at least one slot.
    pub(super) fn nodes(&self) -> Vec<Node> {
        self.known().slots.nodes()
    }

    /// A number whose slot is served by this node.
    pub(super) fn number_at(&self, node: &Node) -> Option<u32> {
        self.known().slots.number_at(node)
    }

    /// Takes over the map that a node has sent.
    pub(super) fn learn(&self, map: &ClusterMap) {
        let mut known = self.known();
        let Known { slots, command_connections, .. } = &mut *known;
        slots.learn(map, |node| command_connections.contains_key(node));
    }

    /// Takes in that `from` has answered MOVED. Returns the node to call next.
    pub(super) fn moved(&self, slot: Slot, from: &Node, to: &Node) -> Node {
        let mut known = self.known();
        let Known { slots, command_connections, .. } = &mut *known;
        let to = slots.moved(slot, from, to, |node| command_connections.contains_key(node));
        drop(known);
        self.map_changed.notify_one();
        to
    }

    /// Adds the command connection of a connection pair that is up.
    pub(super) fn connection_is_up(&self, node: &Node, command_connection: CommandConnection) {
        let mut known = self.known();
        known.temporary.remove(node);
        known.command_connections.insert(node.clone(), command_connection);
    }

    pub(super) fn connection_is_down(&self, node: &Node) {
        let mut known = self.known();
        known.temporary.remove(node);
        known.command_connections.remove(node);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding it")
    }
}

fn no_connection(node: &Node) -> CommandError {
    CommandError::Refused(format!("CLUSTERDOWN there is no link to {node}"))
}
