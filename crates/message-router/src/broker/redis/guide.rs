//! Which connection a call goes by: the link's, or in a cluster that of the node which has the scope's slot.
//!
//! ```text
//!   call ─▶ Guide: slot ─▶ node ─▶ its link's connection ═▶ node ─▶ answer
//!             ▲ └──(MOVED: the map is set right)──┐            │
//!             └──(TRYAGAIN: a little later)───────┴────────────┤
//!                 ASKING, once, at the node named by ASK ◀─────┘
//! ```
//!
//! A redirected call was not carried out, so it is repeated here, behind the back of whoever waits for its answer; the
//! next publish of its scope waits in its lane meanwhile, and order stays.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::HashMap;
use keyspace::{Keyspace, Slot};
use redis_topology::{ClusterMap, Node, Slots};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use wire::{Position, Scope};

use super::caller::{CallError, Caller};
use super::config::RedisBrokerConfig;
use super::redirection::Redirection;
use crate::broker::{Draft, History};

/// Between two tries while a slot is on its way.
const PAUSE: Duration = Duration::from_millis(20);

/// How calls find their connection.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// There is one.
    One(Caller),
    /// A cluster's nodes have one each.
    Cluster(Arc<Guide>),
}

/// What is known of a cluster, for its links and the calls under way.
#[derive(Debug)]
pub(super) struct Guide {
    config: Arc<RedisBrokerConfig>,
    known: Mutex<Known>,
    /// Told when the map has changed, or is known to be wrong.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Known {
    slots: Slots,
    /// The command connections of the links that are up.
    callers: HashMap<Node, Caller>,
    /// Connections to nodes that a redirection named and no link leads to yet.
    visited: HashMap<Node, Caller>,
}

// === impl Way ===

impl Way {
    pub(super) async fn publish(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        messages: &[Draft],
    ) -> Result<Vec<(Position, bool)>, CallError> {
        match self {
            Self::One(caller) => caller.publish(keyspace, scope, messages).await,
            Self::Cluster(guide) => {
                guide.lead(keyspace.slot(scope), |caller| caller.publish(keyspace, scope, messages)).await
            }
        }
    }

    pub(super) async fn read(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Result<History, CallError> {
        match self {
            Self::One(caller) => caller.read(keyspace, scope, after, entries_max).await,
            Self::Cluster(guide) => {
                guide.lead(keyspace.slot(scope), |caller| caller.read(keyspace, scope, after, entries_max)).await
            }
        }
    }

    pub(super) async fn lost(self, keyspace: &Keyspace, scope: &Scope, gone: Position) -> Result<(), CallError> {
        match self {
            Self::One(caller) => caller.lost(keyspace, scope, gone).await,
            Self::Cluster(guide) => guide.lead(keyspace.slot(scope), |caller| caller.lost(keyspace, scope, gone)).await,
        }
    }

    /// In a cluster each node is asked for its own, one node after the other.
    pub(super) async fn tops(self, keyspace: &Keyspace, scopes: &[Scope]) -> Result<Vec<Option<Position>>, CallError> {
        let guide = match self {
            Self::One(caller) => return caller.tops(keyspace, scopes).await,
            Self::Cluster(guide) => guide,
        };
        let mut by_node: HashMap<Node, Vec<usize>> = HashMap::new();
        for (index, scope) in scopes.iter().enumerate() {
            by_node.entry(guide.owner(keyspace.slot(scope))?).or_default().push(index);
        }
        let mut tops = vec![None; scopes.len()];
        for (node, indices) in by_node {
            let own: Vec<Scope> = indices.iter().map(|index| scopes[*index].clone()).collect();
            let caller = guide.caller(&node).ok_or_else(|| no_link(&node))?;
            let answers = caller.tops(keyspace, &own).await.inspect_err(|_| guide.news.notify_one())?;
            indices.into_iter().zip(answers).for_each(|(index, top)| tops[index] = top);
        }
        Ok(tops)
    }
}

// === impl Guide ===

impl Guide {
    pub(super) fn new(config: Arc<RedisBrokerConfig>) -> Self {
        Self { config, known: Mutex::default(), news: Notify::new() }
    }

    /// Calls until an answer is no redirection, or there is no time left for another try.
    async fn lead<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        slot: Slot,
        call: impl Fn(Caller) -> F,
    ) -> Result<T, CallError> {
        let end = Instant::now() + Duration::from_millis(self.config.reply_deadline_ms);
        let node = self.owner(slot)?;
        let (mut caller, mut node) = (self.caller(&node).ok_or_else(|| no_link(&node))?, node);
        loop {
            let refusal = match call(caller).await {
                Err(CallError::Refused(text)) => text,
                Err(error @ CallError::Broken(_)) => {
                    self.known().visited.remove(&node);
                    return Err(error);
                }
                answer => return answer,
            };
            let Some(redirection) = Redirection::parse(&refusal, &node) else {
                return Err(CallError::Refused(refusal));
            };
            if Instant::now() + PAUSE > end {
                return Err(CallError::Refused(refusal));
            }
            let asking = matches!(redirection, Redirection::Ask(_));
            match redirection {
                Redirection::Moved(slot, to) => node = self.moved(slot, &node, &to),
                Redirection::Ask(to) => node = to,
                Redirection::Later => {
                    self.news.notify_one();
                    sleep(PAUSE).await;
                    node = self.owner(slot)?;
                }
            }
            caller = self.visit(&node).await?;
            if asking {
                caller = caller.asking();
            }
        }
    }

    /// The connection of the link to this node, or one made for the occasion.
    async fn visit(&self, node: &Node) -> Result<Caller, CallError> {
        if let Some(caller) = self.caller(node) {
            return Ok(caller);
        }
        let info = self.config.target.info(node);
        let deadline = Duration::from_millis(self.config.reply_deadline_ms);
        // Nothing has been done when this fails.
        let refused = |error: redis::RedisError| CallError::Refused(format!("CLUSTERDOWN {node}: {error}"));
        let client = redis::Client::open(info).map_err(refused)?;
        let limits = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(deadline))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(super::greeting::calls_max(&self.config));
        let connection = client.get_multiplexed_async_connection_with_config(&limits).await.map_err(refused)?;
        let caller = Caller::new(connection, Arc::new(self.config.library.clone()), deadline);
        // Of two made at once the first stays, so that no publish overtakes another of its scope.
        Ok(self.known().visited.entry(node.clone()).or_insert(caller).clone())
    }

    fn owner(&self, slot: Slot) -> Result<Node, CallError> {
        let unserved = || CallError::Refused(format!("CLUSTERDOWN no node serves slot {}", slot.number()));
        self.known().slots.owner(slot).cloned().ok_or_else(unserved)
    }

    fn caller(&self, node: &Node) -> Option<Caller> {
        let known = self.known();
        known.callers.get(node).or_else(|| known.visited.get(node)).cloned()
    }

    /// Who serves a slot.
    pub(super) fn node_of(&self, slot: Slot) -> Option<Node> {
        self.known().slots.owner(slot).cloned()
    }

    /// The primaries that serve anything.
    pub(super) fn nodes(&self) -> Vec<Node> {
        self.known().slots.nodes()
    }

    /// A number whose slot is served by this node.
    pub(super) fn number_at(&self, node: &Node) -> Option<u32> {
        self.known().slots.number_at(node)
    }

    /// Takes over what a node said of all.
    pub(super) fn learn(&self, map: &ClusterMap) {
        let mut known = self.known();
        let Known { slots, callers, .. } = &mut *known;
        slots.learn(map, |node| callers.contains_key(node));
    }

    /// Takes in that `from` has answered MOVED; the node to go to.
    pub(super) fn moved(&self, slot: Slot, from: &Node, to: &Node) -> Node {
        let mut known = self.known();
        let Known { slots, callers, .. } = &mut *known;
        let to = slots.moved(slot, from, to, |node| callers.contains_key(node));
        drop(known);
        self.news.notify_one();
        to
    }

    /// A link works.
    pub(super) fn link_is_up(&self, node: &Node, caller: Caller) {
        let mut known = self.known();
        known.visited.remove(node);
        known.callers.insert(node.clone(), caller);
    }

    pub(super) fn link_is_down(&self, node: &Node) {
        let mut known = self.known();
        known.visited.remove(node);
        known.callers.remove(node);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding it")
    }
}

fn no_link(node: &Node) -> CallError {
    CallError::Refused(format!("CLUSTERDOWN there is no link to {node}"))
}
