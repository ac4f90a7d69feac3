//! The broker of a Redis Cluster: a connection pair to each primary, and each scope at the primary that has its slot.
//!
//! ```text
//!   Subscribe ─▶ DesiredSubscriptions ─▶ connection of the slot's node ═ SSUBSCRIBE ═▶ node
//!   Message   ◀──────────── that connection ◀═ smessage ◀═ SPUBLISH ◀═ tidegate_publish
//!   Lost      ◀─ DesiredSubscriptions ◀─ sunsubscribe, a connection that is lost, a map that has changed
//!   Read, Tops, Publish ─▶ PendingCalls ─▶ ClusterRouter ═▶ node (follows MOVED, ASK, TRYAGAIN)
//! ```
//!
//! The broker is up when the map is known, each connection is up or has failed once, and at least one is up. It is
//! down when none is up. In between, a failed node affects its own scopes only: each is reported as [`Event::Lost`],
//! calls for it are refused, and subscribes wait until a node serves its slot again.
//!
//! The map is queried when it is known to be wrong, and at intervals.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis_topology::{ClusterMap, LocateError, Node, Topology};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::cluster_router::{CallRoute, ClusterRouter};
use super::config::RedisBrokerConfig;
use super::connection_pair::{Disconnected, LinkEvent};
use super::connection_setup::Endpoint;
use super::desired_subscriptions::{DesiredSubscriptions, SubscriptionMove};
use super::pending_calls::{CallReply, PendingCalls};
use super::reconnecting_connection::{ReconnectingConnection, refusal};
use crate::broker::{Command, Event};

/// How often the map is queried without a reason.
const MAP_INTERVAL: Duration = Duration::from_secs(5);
/// How often the map is queried while it is known to be wrong.
const TROUBLE_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Cluster {
    config: Arc<RedisBrokerConfig>,
    router: Arc<ClusterRouter>,
    calls: PendingCalls,
    connections: Vec<(Node, ReconnectingConnection)>,
    /// The connection whose events are taken first next time, so that a busy node does not hide the others.
    next_index: usize,
    desired: DesiredSubscriptions,
    is_up: bool,
    /// The reason reported last, while down.
    reason: Option<String>,
    events: VecDeque<Event>,
    asking: JoinSet<Result<ClusterMap, LocateError>>,
    /// When to query the map. The first waiting task makes the timer.
    timer: Option<Pin<Box<Sleep>>>,
    /// Number of queries so far, so that each begins with another node.
    asked: usize,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(config: Arc<RedisBrokerConfig>) -> Self {
        let router = Arc::new(ClusterRouter::new(Arc::clone(&config)));
        Self {
            calls: PendingCalls::new(Arc::clone(&config), CallRoute::Cluster(Arc::clone(&router)), None),
            desired: DesiredSubscriptions::new(config.keyspace.clone()),
            router,
            config,
            connections: Vec::new(),
            next_index: 0,
            is_up: false,
            reason: None,
            events: VecDeque::new(),
            asking: JoinSet::new(),
            timer: None,
            asked: 0,
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        if !self.is_up {
            let reason = self.reason.as_deref().unwrap_or("not connected to the Redis Cluster yet");
            self.events.extend(refusal(command, reason));
            return;
        }
        let refused = match command {
            Command::Subscribe(scope) => {
                let changes = self.desired.subscribe(scope, |slot| self.router.node_of(slot));
                self.carry_out(changes);
                None
            }
            Command::Unsubscribe(scope) => {
                let changes = self.desired.unsubscribe(&scope);
                self.carry_out(changes);
                None
            }
            Command::Read { ticket, scope, after, entries_max } => self.calls.read(ticket, scope, after, entries_max),
            Command::Tops { ticket, scopes, renew } => self.calls.tops(ticket, scopes, renew),
            Command::Lost { ticket, scope, position } => self.calls.lost(ticket, scope, position),
            Command::Publish(publish) => self.calls.publish(publish),
            Command::Reset(reason) => {
                self.connections
                    .iter_mut()
                    .for_each(|(_, connection)| connection.go_down(Disconnected(reason.clone())));
                None
            }
        };
        self.events.extend(refused);
    }

    /// Returns the next event without waiting.
    pub(super) fn take(&mut self) -> Option<Event> {
        self.calls.send(&mut self.events);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if let Some(answer) = self.calls.try_next() {
                self.take_answer(answer.reply);
                continue;
            }
            let (index, link_event) = self.next_link_event()?;
            if let LinkEvent::Event(event @ Event::Message { .. }) = link_event {
                return Some(event);
            }
            self.handle(index, link_event);
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    pub(super) async fn advance(&mut self) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        tokio::select! {
            () = first_of(&mut self.connections) => self.settle(),
            answer = self.calls.next() => self.take_answer(answer.reply),
            Some(map) = self.asking.join_next() => {
                self.learn(map.expect("a question does not panic, and is aborted only with the broker"));
            }
            () = timer.as_mut() => self.ask_for_map(),
            () = self.router.map_changed.notified() => {
                self.adjust();
                self.hurry();
            }
        }
    }

    fn next_link_event(&mut self) -> Option<(usize, LinkEvent)> {
        let count = self.connections.len();
        for step in 0..count {
            let index = (self.next_index + step) % count;
            if let Some(link_event) = self.connections[index].1.take() {
                self.next_index = index + 1;
                return Some((index, link_event));
            }
        }
        None
    }

    fn handle(&mut self, index: usize, link_event: LinkEvent) {
        let node = self.connections[index].0.clone();
        match link_event {
            LinkEvent::Event(Event::Up) => {
                self.settle();
                let changes = self.desired.place(|slot| self.router.node_of(slot));
                self.carry_out(changes);
            }
            LinkEvent::Event(Event::Down(_)) => {
                // The slots of a failed node will move to another one.
                self.hurry();
                let lost = self.desired.disconnected(&node);
                if self.is_up {
                    self.events.extend(lost.into_iter().map(Event::Lost));
                }
                self.settle();
            }
            LinkEvent::Event(Event::Subscribed(scope)) => {
                let changes = self.desired.confirmed(&scope);
                self.events.extend(self.is_up.then_some(Event::Subscribed(scope)));
                self.carry_out(changes);
            }
            LinkEvent::Event(event) => self.events.push_back(event),
            LinkEvent::Ended(scope) => {
                self.hurry();
                let scope = std::str::from_utf8(&scope).ok();
                let lost = scope.and_then(|scope| self.desired.ended(scope, &node));
                self.events.extend(lost.map(Event::Lost));
            }
            LinkEvent::Misrouted(misrouted) => {
                self.router.moved(misrouted.slot, &node, &misrouted.to);
                self.desired.misrouted(&misrouted.scopes);
                self.adjust();
            }
        }
    }

    /// Sends the changes to the connections of their nodes.
    fn carry_out(&mut self, changes: Vec<SubscriptionMove>) {
        for SubscriptionMove { node, scope, wanted } in changes {
            let connection = self.connections.iter_mut().find(|(name, connection)| *name == node && connection.is_up());
            match (connection, wanted) {
                (Some((_, connection)), true) => connection.command(Command::Subscribe(scope)),
                (Some((_, connection)), false) => connection.command(Command::Unsubscribe(scope)),
                (None, true) => self.desired.unplaced(&scope),
                (None, false) => {}
            }
        }
    }

    /// Reports up or down, by the state of the connections.
    fn settle(&mut self) {
        let any_up = self.connections.iter().any(|(_, connection)| connection.is_up());
        let all_settled = self.connections.iter().all(|(_, connection)| connection.is_settled());
        if !self.is_up && any_up && all_settled {
            self.is_up = true;
            self.reason = None;
            self.events.push_back(Event::Up);
        } else if !any_up && (self.is_up || all_settled) {
            self.go_down(self.reasons());
        }
    }

    /// Why the connections are down. A reason that all share is given once.
    fn reasons(&self) -> String {
        let reasons: Vec<_> =
            self.connections.iter().filter_map(|(node, connection)| Some((node, connection.reason()?))).collect();
        match &reasons[..] {
            [(_, first), others @ ..] if others.iter().all(|(_, reason)| reason == first) => (*first).to_owned(),
            _ => reasons.iter().map(|(node, reason)| format!("{node}: {reason}")).collect::<Vec<_>>().join("; "),
        }
    }

    fn go_down(&mut self, reason: String) {
        self.is_up = false;
        self.desired.clear();
        if self.reason.as_deref() != Some(&*reason) {
            tracing::debug!(redis = %self.config.target, reason, "Redis Cluster unavailable");
            self.events.push_back(Event::Down(reason.clone()));
            self.reason = Some(reason);
        }
    }

    fn ask_for_map(&mut self) {
        self.timer = Some(Box::pin(sleep_until(Instant::now() + MAP_INTERVAL)));
        if !self.asking.is_empty() {
            return;
        }
        let Topology::Cluster(seeds) = self.config.target.topology() else { unreachable!("it is a cluster") };
        // Nodes that are up, each in its turn, and behind them the nodes of the URL.
        let mut nodes: Vec<Node> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_up())
            .map(|(node, _)| node.clone())
            .collect();
        let next_index = self.asked % nodes.len().max(1);
        nodes.rotate_left(next_index);
        nodes.extend(seeds.iter().cloned());
        self.asked += 1;
        let target = self.config.target.clone();
        self.asking.spawn(async move { target.ask_for_map(&nodes).await });
    }

    fn learn(&mut self, map: Result<ClusterMap, LocateError>) {
        match map {
            Ok(map) => self.router.learn(&map),
            Err(error) => {
                if self.connections.iter().all(|(_, connection)| !connection.is_up()) {
                    self.go_down(error.to_string());
                }
                self.hurry();
                return;
            }
        }
        self.adjust();
        let served = self.router.nodes();
        let missing = served.is_empty() || self.connections.iter().any(|(_, connection)| !connection.is_up());
        if missing || self.desired.has_unplaced() {
            self.hurry();
        }
    }

    /// Adjusts the connections and the desired subscriptions to the map.
    fn adjust(&mut self) {
        let served = self.router.nodes();
        for node in &served {
            if !self.connections.iter().any(|(name, _)| name == node) {
                let endpoint = Endpoint::Node(node.clone(), Arc::clone(&self.router));
                self.connections.push((node.clone(), ReconnectingConnection::new(Arc::clone(&self.config), endpoint)));
            }
        }
        let (lost, changes) = self.desired.follow(|slot| self.router.node_of(slot));
        self.events.extend(lost.into_iter().map(Event::Lost));
        self.carry_out(changes);
        // A node without slots has no scopes; they are subscribed at other nodes.
        for (node, _) in self.connections.extract_if(.., |(node, _)| !served.contains(node)) {
            let lost = self.desired.disconnected(&node);
            self.router.connection_is_down(&node);
            self.events.extend(lost.into_iter().map(Event::Lost));
        }
        let changes = self.desired.place(|slot| self.router.node_of(slot));
        self.carry_out(changes);
        if !self.connections.is_empty() {
            self.settle();
        }
    }

    /// Queries the map soon.
    fn hurry(&mut self) {
        let soon = Instant::now() + TROUBLE_INTERVAL;
        if self.timer.as_ref().is_none_or(|timer| timer.deadline() > soon) {
            self.timer = Some(Box::pin(sleep_until(soon)));
        }
    }

    fn take_answer(&mut self, reply: CallReply) {
        if let CallReply::Events(events) = reply {
            self.events.extend(events);
        }
        self.calls.send(&mut self.events);
    }
}

/// Waits for any of the connections.
async fn first_of(connections: &mut [(Node, ReconnectingConnection)]) {
    let mut waits: Vec<_> = connections.iter_mut().map(|(_, connection)| Box::pin(connection.advance())).collect();
    poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
