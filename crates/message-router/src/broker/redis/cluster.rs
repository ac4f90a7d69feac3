//! A Redis Cluster: a line to each primary, and each scope at the one that has its slot.
//!
//! ```text
//!   Subscribe ─▶ Wishes ─▶ Line of the slot's node ═ SSUBSCRIBE ═▶ node
//!   Message   ◀──────────── that Line ◀═ smessage ◀═ SPUBLISH ◀═ tidegate_publish
//!   Lost      ◀─ Wishes ◀─ sunsubscribe, a line that is cut, a map that has changed
//!   Read, Tops, Publish ─▶ Calls ─▶ Guide ═▶ node (follows MOVED, ASK, TRYAGAIN)
//! ```
//!
//! The broker is up when the map is known, each line works or has tried in vain, and one works; it is down when none
//! does. In between a node that is away takes its own scopes along and nobody else's: each is told as
//! [`Event::Lost`], calls for it are refused, and subscribes wait until its slot has a working node again.
//!
//! The map is asked for when it is known to be wrong, and now and then without a reason.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis_topology::{ClusterMap, LocateError, Node, Topology};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::calls::{Calls, Reply};
use super::config::RedisBrokerConfig;
use super::greeting::Spot;
use super::guide::{Guide, Way};
use super::line::{Line, refusal};
use super::link::{Cut, Told};
use super::wishes::{Change, Wishes};
use crate::broker::{Command, Event};

/// How often the map is asked for without a reason.
const MAP_INTERVAL: Duration = Duration::from_secs(5);
/// How often while something is known to be wrong.
const TROUBLE_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Cluster {
    config: Arc<RedisBrokerConfig>,
    guide: Arc<Guide>,
    calls: Calls,
    lines: Vec<(Node, Line)>,
    /// Whose turn it is to be heard first: one busy node must not hide the others.
    turn: usize,
    wishes: Wishes,
    is_up: bool,
    /// The reason last told, while down.
    reason: Option<String>,
    events: VecDeque<Event>,
    asking: JoinSet<Result<ClusterMap, LocateError>>,
    /// When to ask for the map; made by whoever waits first.
    timer: Option<Pin<Box<Sleep>>>,
    /// Counts the questions, so that each goes to another node first.
    asked: usize,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(config: Arc<RedisBrokerConfig>) -> Self {
        let guide = Arc::new(Guide::new(Arc::clone(&config)));
        Self {
            calls: Calls::new(Arc::clone(&config), Way::Cluster(Arc::clone(&guide)), None),
            wishes: Wishes::new(config.keyspace.clone()),
            guide,
            config,
            lines: Vec::new(),
            turn: 0,
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
                let changes = self.wishes.subscribe(scope, |slot| self.guide.node_of(slot));
                self.carry_out(changes);
                None
            }
            Command::Unsubscribe(scope) => {
                let changes = self.wishes.unsubscribe(&scope);
                self.carry_out(changes);
                None
            }
            Command::Read { ticket, scope, after, entries_max } => self.calls.read(ticket, scope, after, entries_max),
            Command::Tops { ticket, scopes } => self.calls.tops(ticket, scopes),
            Command::Lost { ticket, scope, position } => self.calls.lost(ticket, scope, position),
            Command::Publish(publish) => self.calls.publish(publish),
            Command::Reset(reason) => {
                self.lines.iter_mut().for_each(|(_, line)| line.go_down(Cut(reason.clone())));
                None
            }
        };
        self.events.extend(refused);
    }

    /// What is at hand, without waiting.
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
            let (index, told) = self.next_told()?;
            if let Told::Event(event @ Event::Message { .. }) = told {
                return Some(event);
            }
            self.handle(index, told);
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    pub(super) async fn advance(&mut self) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        tokio::select! {
            () = first_of(&mut self.lines) => self.settle(),
            answer = self.calls.next() => self.take_answer(answer.reply),
            Some(map) = self.asking.join_next() => {
                self.learn(map.expect("a question does not panic, and is aborted only with the broker"));
            }
            () = timer.as_mut() => self.ask_for_map(),
            () = self.guide.news.notified() => {
                self.adjust();
                self.hurry();
            }
        }
    }

    fn next_told(&mut self) -> Option<(usize, Told)> {
        let count = self.lines.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if let Some(told) = self.lines[index].1.take() {
                self.turn = index + 1;
                return Some((index, told));
            }
        }
        None
    }

    fn handle(&mut self, index: usize, told: Told) {
        let node = self.lines[index].0.clone();
        match told {
            Told::Event(Event::Up) => {
                self.settle();
                let changes = self.wishes.place(|slot| self.guide.node_of(slot));
                self.carry_out(changes);
            }
            Told::Event(Event::Down(_)) => {
                // The slots of a node that has failed will be another's.
                self.hurry();
                let lost = self.wishes.cut(&node);
                if self.is_up {
                    self.events.extend(lost.into_iter().map(Event::Lost));
                }
                self.settle();
            }
            Told::Event(Event::Subscribed(scope)) => {
                let changes = self.wishes.confirmed(&scope);
                self.events.extend(self.is_up.then_some(Event::Subscribed(scope)));
                self.carry_out(changes);
            }
            Told::Event(event) => self.events.push_back(event),
            Told::Ended(scope) => {
                self.hurry();
                let scope = std::str::from_utf8(&scope).ok();
                let lost = scope.and_then(|scope| self.wishes.ended(scope, &node));
                self.events.extend(lost.map(Event::Lost));
            }
            Told::Bounced(bounced) => {
                self.guide.moved(bounced.slot, &node, &bounced.to);
                self.wishes.bounced(&bounced.scopes);
                self.adjust();
            }
        }
    }

    /// Has the lines do what the wishes ask for.
    fn carry_out(&mut self, changes: Vec<Change>) {
        for Change { node, scope, wanted } in changes {
            let line = self.lines.iter_mut().find(|(name, line)| *name == node && line.is_up());
            match (line, wanted) {
                (Some((_, line)), true) => line.command(Command::Subscribe(scope)),
                (Some((_, line)), false) => line.command(Command::Unsubscribe(scope)),
                (None, true) => self.wishes.unplaced(&scope),
                (None, false) => {}
            }
        }
    }

    /// Up or down, as the lines are.
    fn settle(&mut self) {
        let any_up = self.lines.iter().any(|(_, line)| line.is_up());
        let all_settled = self.lines.iter().all(|(_, line)| line.is_settled());
        if !self.is_up && any_up && all_settled {
            self.is_up = true;
            self.reason = None;
            self.events.push_back(Event::Up);
        } else if !any_up && (self.is_up || all_settled) {
            self.go_down(self.reasons());
        }
    }

    /// Why the lines are down: once, when it is the same for all.
    fn reasons(&self) -> String {
        let reasons: Vec<_> = self.lines.iter().filter_map(|(node, line)| Some((node, line.reason()?))).collect();
        match &reasons[..] {
            [(_, first), others @ ..] if others.iter().all(|(_, reason)| reason == first) => (*first).to_owned(),
            _ => reasons.iter().map(|(node, reason)| format!("{node}: {reason}")).collect::<Vec<_>>().join("; "),
        }
    }

    fn go_down(&mut self, reason: String) {
        self.is_up = false;
        self.wishes.clear();
        if self.reason.as_deref() != Some(&*reason) {
            tracing::warn!(redis = %self.config.target, reason, "the Redis Cluster is away");
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
        // Those that work, each in its turn, and the ones of the URL when none does.
        let mut nodes: Vec<Node> =
            self.lines.iter().filter(|(_, line)| line.is_up()).map(|(node, _)| node.clone()).collect();
        let turn = self.asked % nodes.len().max(1);
        nodes.rotate_left(turn);
        nodes.extend(seeds.iter().cloned());
        self.asked += 1;
        let target = self.config.target.clone();
        self.asking.spawn(async move { target.ask_for_map(&nodes).await });
    }

    fn learn(&mut self, map: Result<ClusterMap, LocateError>) {
        match map {
            Ok(map) => self.guide.learn(&map),
            Err(error) => {
                if self.lines.iter().all(|(_, line)| !line.is_up()) {
                    self.go_down(error.to_string());
                }
                self.hurry();
                return;
            }
        }
        self.adjust();
        let served = self.guide.nodes();
        let missing = served.is_empty() || self.lines.iter().any(|(_, line)| !line.is_up());
        if missing || self.wishes.has_unplaced() {
            self.hurry();
        }
    }

    /// Lines and wishes as the map has them.
    fn adjust(&mut self) {
        let served = self.guide.nodes();
        for node in &served {
            if !self.lines.iter().any(|(name, _)| name == node) {
                let spot = Spot::Node(node.clone(), Arc::clone(&self.guide));
                self.lines.push((node.clone(), Line::new(Arc::clone(&self.config), spot)));
            }
        }
        let (lost, changes) = self.wishes.follow(|slot| self.guide.node_of(slot));
        self.events.extend(lost.into_iter().map(Event::Lost));
        self.carry_out(changes);
        // A node without slots has nobody's scope; what was asked there will be asked elsewhere.
        for (node, _) in self.lines.extract_if(.., |(node, _)| !served.contains(node)) {
            let lost = self.wishes.cut(&node);
            self.guide.link_is_down(&node);
            self.events.extend(lost.into_iter().map(Event::Lost));
        }
        let changes = self.wishes.place(|slot| self.guide.node_of(slot));
        self.carry_out(changes);
        if !self.lines.is_empty() {
            self.settle();
        }
    }

    /// Asks for the map before long.
    fn hurry(&mut self) {
        let soon = Instant::now() + TROUBLE_INTERVAL;
        if self.timer.as_ref().is_none_or(|timer| timer.deadline() > soon) {
            self.timer = Some(Box::pin(sleep_until(soon)));
        }
    }

    fn take_answer(&mut self, reply: Reply) {
        if let Reply::Events(events) = reply {
            self.events.extend(events);
        }
        self.calls.send(&mut self.events);
    }
}

/// Waits for any of the lines.
async fn first_of(lines: &mut [(Node, Line)]) {
    let mut waits: Vec<_> = lines.iter_mut().map(|(_, line)| Box::pin(line.advance())).collect();
    poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
