//! The main loop: it passes broker events to the router, and executes the router's commands.
//!
//! ```text
//!   broker ─event─▶ pump ─▶ router ─▶ ┌ commands ──────────────────▶ broker
//!   shards ─request─▶ pump ─▶         └ deliveries ─▶ encode once ─▶ shards
//! ```
//!
//! The pump runs on the thread of the first shard. With one core, a message goes from the Redis socket to the client
//! sockets without a change of thread.

mod page_encoder;
mod publishing;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;
use message_router::{
    Broker, Command, Draft, Entry, Event, Output, Router, RouterCounts, ShardIndex, ShardSet, Ticket,
};
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval};
use wire::{Envelope, Message, Position, Scope, Timestamp};

use crate::dispatch::dead_letters::{DeadLetters, Poison};
use crate::health::Health;
use crate::health::watchdog::{self, Loop};
use crate::host::allocator::IdleDetector;
use crate::host::clock::Clock;
use crate::host::mailbox::Mailbox;
use crate::metrics::counters::PumpCounters;
use crate::protocol::outgoing::{Messages, Outgoing};
use crate::session::publish::PublishRequest;
use crate::session::rules::Rules;
use crate::shard::catch_up_page::CatchUpPage;
use crate::shard::hub::Hub;
use crate::shard::requests::{PumpRequest, ToShard};
use crate::shard::shared::Shared;
use page_encoder::PageEncoder;
use publishing::Publishing;

/// Largest number of broker events handled before the shards receive their items: enough for a batch, and few enough
/// for a low latency.
const EVENTS_PER_TURN: usize = 128;

/// Interval at which the router releases scopes that are no longer needed and retries failed reads.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Sweeps between tasks that run about once a second.
const SWEEPS_PER_SECOND: u32 = 4;

/// Capacity that is kept for the items of one turn.
const OUTPUTS_KEPT: usize = 1_024;

/// Passes messages between the broker and the shards.
#[derive(Debug)]
pub(crate) struct Pump<B> {
    broker: B,
    router: Router,
    rules: Arc<Rules>,
    health: Arc<Health>,
    hub: Hub,
    inbox: Arc<Mailbox<PumpRequest>>,
    counters: Arc<PumpCounters>,
    dead_letters: DeadLetters,
    clock: Clock,
    /// Publishes that wait for an answer.
    publishing: HashMap<Ticket, Publishing>,
    next_ticket: u64,
    /// The number of fences at the last check.
    fences: u64,
    sweeps: u32,
    /// Detects when the number of scopes stops changing.
    idle_detector: IdleDetector,
    /// The router's outputs of this turn.
    outputs: Vec<Output>,
    /// Items for each shard at the end of this turn, and their size in bytes.
    outgoing: Vec<(Vec<ToShard>, usize)>,
}

impl<B: Broker> Pump<B> {
    pub(crate) fn new(
        broker: B,
        router: Router,
        shared: Shared,
        inbox: Arc<Mailbox<PumpRequest>>,
        clock: Clock,
    ) -> Self {
        let Shared { rules, health, hub, pump: counters, dead_letter_queue, .. } = shared;
        let dead_letters = DeadLetters::new(dead_letter_queue, rules.instance.clone(), rules.policies.clone());
        let outgoing = hub.shards().map(|_| (Vec::new(), 0)).collect();
        Self {
            broker,
            router,
            rules,
            health,
            hub,
            inbox,
            counters,
            dead_letters,
            clock,
            publishing: HashMap::new(),
            next_ticket: 0,
            fences: 0,
            sweeps: 0,
            idle_detector: IdleDetector::default(),
            outputs: Vec::new(),
            outgoing,
        }
    }

    /// Runs until `stop` is true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut requests = Vec::new();
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report_timer = watchdog::report_timer();
        loop {
            let mut event = None;
            // The branches have no priority, so that neither many joins nor many messages block the other.
            tokio::select! {
                () = self.inbox.take_all(&mut requests) => {}
                next = self.broker.next_event() => event = Some(next),
                _ = sweeps.tick() => self.sweep(),
                due = report_timer.tick() => self.health.watchdog().report(Loop::Pump, due.into_std(), Instant::now()),
                _ = stop.wait_for(|stop| *stop) => return,
            }
            // Checked before the event is handled, because the process may have been stopped since.
            if self.was_fenced_again() {
                self.restart(&mut event);
            }
            requests.drain(..).for_each(|request| self.request(request));
            if let Some(event) = event {
                self.events(event);
            }
            self.carry_out();
            self.flush_to_shards().await;
        }
    }

    /// Gives the router its time slice, and copies its counts to the metrics.
    fn sweep(&mut self) {
        self.router.sweep(self.clock.now().mono_ms, &mut self.outputs);
        let RouterCounts { repaired, check_repaired, checks, check_holes, gaps, lost, .. } = self.router.counts();
        self.counters.repaired.set(repaired);
        self.counters.check_repaired.set(check_repaired);
        self.counters.checks.set(checks);
        self.counters.check_holes.set(check_holes);
        self.counters.scope_gaps.set(gaps);
        self.counters.subscriptions_lost.set(lost);
        self.sweeps = self.sweeps.wrapping_add(1);
        if self.sweeps.is_multiple_of(SWEEPS_PER_SECOND) && self.idle_detector.is_idle(self.router.scopes() as u64) {
            self.outputs.shrink_to(OUTPUTS_KEPT);
            self.outgoing.iter_mut().for_each(|(items, _)| items.shrink_to(OUTPUTS_KEPT));
            self.publishing.shrink_to(2 * self.publishing.len());
        }
    }

    fn was_fenced_again(&mut self) -> bool {
        let fences = self.health.fences(Instant::now());
        std::mem::replace(&mut self.fences, fences) != fences
    }

    /// Discards everything that is on its way from the broker, because it may be stale, and resets the broker's
    /// connection. The shards ask their clients to reconnect; this includes clients that wait for the answer to a
    /// publish.
    fn restart(&mut self, in_hand: &mut Option<Event>) {
        in_hand.take_if(|event| !matches!(event, Event::Up | Event::Down(_)));
        self.publishing.clear();
        self.broker.command(Command::Reset("this process was stopped past its lease, or was replaced".into()));
    }

    /// Handles one event, and the events that are available after it.
    fn events(&mut self, first: Event) {
        let mut next = Some(first);
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = next else { return };
            self.event(event);
            next = self.broker.try_next_event();
        }
        if let Some(event) = next {
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        let now_ms = self.clock.now().mono_ms;
        match event {
            Event::Published { ticket, result } => self.published(ticket, result),
            Event::Up => {
                self.counters.broker_up.set(1);
                self.health.broker_is_up();
                self.router.handle(Event::Up, now_ms, &mut self.outputs);
            }
            Event::Down(reason) => {
                self.counters.broker_up.set(0);
                self.health.broker_is_down(&reason);
                self.counters.broker_downs.add(1);
                self.router.handle(Event::Down(reason), now_ms, &mut self.outputs);
            }
            event => self.router.handle(event, now_ms, &mut self.outputs),
        }
        self.carry_out();
    }

    fn request(&mut self, request: PumpRequest) {
        match request {
            PumpRequest::Join { shard, joiner, scope, after } => {
                self.router.join(shard, joiner, scope, after, &mut self.outputs);
            }
            PumpRequest::Leave { shard, scope } => self.router.leave(shard, &scope, self.clock.now().mono_ms),
            PumpRequest::Publish(PublishRequest { user, channel, id, message }, reply_to) => {
                let draft = Draft { topic: channel.topic().into(), message, id };
                let id = draft.id.clone();
                self.publish(Publishing { reply_to, user, channel, id }, draft);
            }
        }
        self.carry_out();
    }

    /// Executes the outputs of the router.
    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut pages = PageEncoder::default();
        for output in outputs.drain(..) {
            match output {
                Output::Command(command) => {
                    if let Command::Read { .. } = command {
                        self.counters.history_reads.add(1);
                    }
                    self.broker.command(command);
                }
                Output::Deliver { shards, scope, envelope, after } => self.deliver(shards, scope, &envelope, after),
                Output::Replay { shards, scope, entries } => self.replay(shards, &scope, &entries),
                Output::Joined { shard, joiner, joined } => {
                    let messages = pages.encode(&joined.entries, |entry| self.encode_entry(&joined.scope, entry));
                    let bytes = messages.iter().map(Outgoing::size).sum();
                    let message_router::Joined { start, lost, upto, more, .. } = joined;
                    let joined = Box::new(CatchUpPage { start, lost, messages, upto, more });
                    self.send_to_shard(shard, ToShard::Joined(joiner, joined), bytes);
                }
                Output::Gap { shards, scope, gap } => {
                    shards.iter().for_each(|shard| self.send_to_shard(shard, ToShard::Gap(scope.clone(), gap), 0));
                }
                Output::Local { shards, scope, messages } => self.deliver_local(shards, scope, messages),
                Output::Isolated { shards, scope } => {
                    shards.iter().for_each(|shard| self.send_to_shard(shard, ToShard::Isolated(scope.clone()), 0));
                }
                Output::Degraded { degraded } => {
                    self.hub.indexes().for_each(|shard| self.send_to_shard(shard, ToShard::Degraded(degraded), 0));
                }
            }
        }
        self.outputs = outputs;
        self.counters.scopes.set(self.router.scopes() as u64);
    }

    /// Encodes the messages after position `after`, once for all shards, and sends them.
    fn deliver(&mut self, shards: ShardSet, scope: Scope, bytes: &Bytes, after: Position) {
        let Ok(envelope) = Envelope::parse(bytes) else { return self.counters.messages_bad.add(1) };
        let mut messages = Messages::new();
        let mut size = 0;
        for item in envelope.items() {
            let Ok((position, topic, message)) = item else {
                self.counters.messages_bad.add(1);
                break;
            };
            if position <= after {
                continue;
            }
            self.counters.messages_in.add(1);
            let topic_bytes = bytes.slice_ref(topic.as_bytes());
            if let Some(outgoing) = self.encode(&scope, topic, topic_bytes, message, envelope.time, Some(position)) {
                size += outgoing.size();
                messages.push(outgoing);
            }
        }
        self.enqueue_delivery(shards, scope, messages, size, envelope.time);
    }

    /// Sends repaired messages in the same way as live messages.
    fn replay(&mut self, shards: ShardSet, scope: &Scope, entries: &[Entry]) {
        let messages: Messages = entries.iter().filter_map(|entry| self.encode_entry(scope, entry)).collect();
        let size = messages.iter().map(Outgoing::size).sum();
        let time = entries.last().map_or(Timestamp(0), |entry| entry.time);
        self.enqueue_delivery(shards, scope.clone(), messages, size, time);
    }

    /// Sends messages that the broker has not stored in the same way. They have no position.
    fn deliver_local(&mut self, shards: ShardSet, scope: Scope, messages: Vec<Draft>) {
        let time = Timestamp(self.clock.now().unix_ms);
        let encode = |Draft { topic, message, .. }: &Draft| {
            self.encode(&scope, topic, Bytes::copy_from_slice(topic.as_bytes()), message, time, None)
        };
        let messages: Messages = messages.iter().filter_map(encode).collect();
        let size = messages.iter().map(Outgoing::size).sum();
        self.enqueue_delivery(shards, scope, messages, size, time);
    }

    fn enqueue_delivery(&mut self, shards: ShardSet, scope: Scope, messages: Messages, size: usize, time: Timestamp) {
        if messages.is_empty() {
            return;
        }
        let mut shards = shards.iter().peekable();
        while let Some(shard) = shards.next() {
            let published_ms = time.0;
            if shards.peek().is_none() {
                return self.send_to_shard(shard, ToShard::Deliver { scope, messages, published_ms }, size);
            }
            let (scope, messages) = (scope.clone(), messages.clone());
            self.send_to_shard(shard, ToShard::Deliver { scope, messages, published_ms }, size);
        }
    }

    fn encode_entry(&self, scope: &Scope, entry: &Entry) -> Option<Outgoing> {
        let topic = Bytes::copy_from_slice(entry.topic.as_bytes());
        self.encode(scope, &entry.topic, topic, &entry.message, entry.time, Some(entry.position))
    }

    /// Encodes a message. A poison message is counted, kept as a dead letter and left out; later messages of the
    /// channel are delivered.
    fn encode(
        &self,
        scope: &Scope,
        topic: &str,
        topic_bytes: Bytes,
        message: &[u8],
        time: Timestamp,
        position: Option<Position>,
    ) -> Option<Outgoing> {
        let binary = self.rules.policies.policy(scope.family()).binary;
        let poison = match Message::parse(message) {
            Ok(message) if message.is_binary() && !binary => Poison::Binary,
            Ok(message) => {
                return Some(Outgoing::new(&message, scope, topic_bytes, time, position));
            }
            Err(error) => Poison::Bad(error),
        };
        self.counters.messages_bad.add(1);
        match position {
            Some(position) => self.dead_letters.poison(scope, topic, position, time, message, &poison),
            // A client of this instance has just sent it, and the session has checked it.
            None => tracing::warn!(%scope, "local message dropped"),
        }
        None
    }

    fn send_to_shard(&mut self, shard: ShardIndex, item: ToShard, bytes: usize) {
        let (items, size) = &mut self.outgoing[shard.0 as usize];
        items.push(item);
        *size += bytes;
    }

    /// Ends the turn: each shard receives its items at once. A shard whose inbox is full pauses the pump and thereby
    /// the Redis socket. Redis then disconnects a subscriber that is too slow, and the router repairs from history.
    pub(crate) async fn flush_to_shards(&mut self) {
        for (shard, (items, size)) in self.hub.shards().zip(&mut self.outgoing) {
            if items.is_empty() {
                continue;
            }
            shard.inbox.has_room().await;
            shard.inbox.push_all(items, std::mem::take(size));
        }
    }
}

/// The steps of [`Pump::run`], one at a time. A simulation decides which step is next.
#[cfg(test)]
impl<B: Broker> Pump<B> {
    pub(crate) fn take(&mut self, request: PumpRequest) {
        self.request(request);
    }

    pub(crate) fn handle_event(&mut self, event: Event) {
        self.event(event);
    }

    pub(crate) fn run_sweep(&mut self) {
        self.sweep();
        self.carry_out();
    }

    pub(crate) fn run_restart(&mut self) {
        self.restart(&mut None);
        self.carry_out();
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }
}
