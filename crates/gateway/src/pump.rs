//! THE MAIN LOOP: broker events in, router commands out.
//!
//! ```text
//!   broker ─event─▶ pump ─▶ router ─▶ ┌ commands ──────────────────▶ broker
//!   shards ─request─▶ pump ─▶         └ deliveries ─▶ encode once ─▶ shards
//! ```
//!
//! It runs on the first shard's thread: with one core a message goes from Redis' socket to the clients' without
//! a change of thread.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use message_router::{Broker, Command, Entry, Event, Output, Publish, Router, ShardIndex, ShardSet, Ticket};
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval};
use wire::{Channel, Envelope, Message, Position, Scope, Timestamp};

use crate::clock::Clock;
use crate::counters::PumpCounters;
use crate::health::Health;
use crate::hub::{Answer, FromShard, Hub, Joined, Messages, Outgoing, Sender, ToShard};
use crate::mailbox::Mailbox;
use crate::rules::Rules;
use crate::shared::Shared;

/// Broker events handled before shards get what they gave: enough to batch, few enough to stay prompt.
const EVENTS_PER_TURN: usize = 128;

/// How often the router lets go of what lingers and asks failed questions again.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Carries messages between the broker and the shards.
#[derive(Debug)]
pub(crate) struct Pump<B> {
    broker: B,
    router: Router,
    rules: Arc<Rules>,
    health: Arc<Health>,
    hub: Hub,
    inbox: Arc<Mailbox<(ShardIndex, FromShard)>>,
    counters: Arc<PumpCounters>,
    clock: Clock,
    /// Publishes without an answer yet.
    publishing: HashMap<Ticket, Publishing>,
    next_ticket: u64,
    /// What the router gave in this turn.
    outputs: Vec<Output>,
    /// What each shard is to get at the end of this turn, and how many bytes that is.
    outgoing: Vec<(Vec<ToShard>, usize)>,
}

/// Who awaits the answer to a publish.
#[derive(Debug)]
struct Publishing {
    from: Sender,
    channel: Channel,
    correlation_id: Option<Box<str>>,
}

impl<B: Broker> Pump<B> {
    pub(crate) fn new(
        broker: B,
        router: Router,
        shared: Shared,
        inbox: Arc<Mailbox<(ShardIndex, FromShard)>>,
        clock: Clock,
    ) -> Self {
        let Shared { rules, health, hub, pump: counters, .. } = shared;
        let outgoing = hub.shards().map(|_| (Vec::new(), 0)).collect();
        Self {
            broker,
            router,
            rules,
            health,
            hub,
            inbox,
            counters,
            clock,
            publishing: HashMap::new(),
            next_ticket: 0,
            outputs: Vec::new(),
            outgoing,
        }
    }

    /// Runs until `stop` turns true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut requests = Vec::new();
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // In no order of preference: neither a storm of joins nor one of messages starves the other.
            tokio::select! {
                () = self.inbox.take_all(&mut requests) => {
                    requests.drain(..).for_each(|(shard, request)| self.request(shard, request));
                }
                event = self.broker.next_event() => self.events(event),
                _ = sweeps.tick() => self.router.sweep(self.clock.now().mono_ms, &mut self.outputs),
                _ = stop.wait_for(|stop| *stop) => return,
            }
            self.carry_out();
            self.hand_over().await;
        }
    }

    /// Handles one event and those that are at hand behind it.
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
                tracing::info!("the broker is there");
                self.counters.broker_up.set(1);
                self.health.set_broker_up(true);
                self.router.handle(Event::Up, now_ms, &mut self.outputs);
            }
            Event::Down(reason) => {
                tracing::warn!(reason, "the broker is lost");
                self.counters.broker_up.set(0);
                self.health.set_broker_up(false);
                self.counters.broker_downs.add(1);
                self.router.handle(Event::Down(reason), now_ms, &mut self.outputs);
            }
            event => self.router.handle(event, now_ms, &mut self.outputs),
        }
        self.carry_out();
    }

    fn request(&mut self, shard: ShardIndex, request: FromShard) {
        match request {
            FromShard::Join { joiner, scope, after } => {
                self.router.join(shard, joiner, scope, after, &mut self.outputs);
            }
            FromShard::Leave { scope } => self.router.leave(shard, &scope, self.clock.now().mono_ms),
            FromShard::Publish { from, channel, message, correlation_id } => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                let messages = vec![(Box::from(channel.topic()), message)];
                let command = Command::Publish(Publish { ticket, scope: channel.scope.clone(), messages });
                self.publishing.insert(ticket, Publishing { from, channel, correlation_id });
                self.broker.command(command);
            }
        }
        self.carry_out();
    }

    fn published(&mut self, ticket: Ticket, result: Result<Position, message_router::BrokerError>) {
        match &result {
            Ok(_) => self.counters.publishes.add(1),
            Err(error) => {
                self.counters.publish_errors.add(1);
                tracing::debug!(%error, "a publish was refused");
            }
        }
        if let Some(Publishing { from, channel, correlation_id }) = self.publishing.remove(&ticket) {
            let is_kept = self.rules.policies.policy(channel.scope.family()).history_entries_max > 0;
            let answer = Box::new(Answer { channel, correlation_id, result, is_kept });
            self.tell(from.shard, ToShard::Published(from, answer), 0);
        }
    }

    /// Does what the router decided.
    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
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
                    let messages = self.encode_entries(&joined.scope, &joined.entries);
                    let bytes = messages.iter().map(|m| m.frame.bytes().len()).sum();
                    let (start, upto, more) = (joined.start, joined.upto, joined.more);
                    let joined = Box::new(Joined { start, messages, upto, more });
                    self.tell(shard, ToShard::Joined(joiner, joined), bytes);
                }
                Output::Gap { shards, scope, gap } => {
                    shards.iter().for_each(|shard| self.tell(shard, ToShard::Gap(scope.clone(), gap), 0));
                }
                Output::Degraded { degraded } => {
                    self.hub.indexes().for_each(|shard| self.tell(shard, ToShard::Degraded(degraded), 0));
                }
            }
        }
        self.outputs = outputs;
        self.counters.scopes.set(self.router.scopes() as u64);
    }

    /// Encodes what is behind `after`, once, for all shards.
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
            if let Some(outgoing) = self.encode(&scope, topic, topic_bytes, message, envelope.time, position) {
                size += outgoing.frame.bytes().len();
                messages.push(outgoing);
            }
        }
        self.hand(shards, scope, messages, size, envelope.time);
    }

    /// Repaired messages take the same way as live ones.
    fn replay(&mut self, shards: ShardSet, scope: &Scope, entries: &[Entry]) {
        let messages: Messages = self.encode_entries(scope, entries).into();
        let size = messages.iter().map(|m| m.frame.bytes().len()).sum();
        let time = entries.last().map_or(Timestamp(0), |entry| entry.time);
        self.hand(shards, scope.clone(), messages, size, time);
    }

    fn hand(&mut self, shards: ShardSet, scope: Scope, messages: Messages, size: usize, time: Timestamp) {
        if messages.is_empty() {
            return;
        }
        let mut shards = shards.iter().peekable();
        while let Some(shard) = shards.next() {
            let published_ms = time.0;
            if shards.peek().is_none() {
                return self.tell(shard, ToShard::Deliver { scope, messages, published_ms }, size);
            }
            let (scope, messages) = (scope.clone(), messages.clone());
            self.tell(shard, ToShard::Deliver { scope, messages, published_ms }, size);
        }
    }

    fn encode_entries(&self, scope: &Scope, entries: &[Entry]) -> Vec<Outgoing> {
        let encode = |entry: &Entry| {
            let topic = Bytes::copy_from_slice(entry.topic.as_bytes());
            self.encode(scope, &entry.topic, topic, &entry.message, entry.time, entry.position)
        };
        entries.iter().filter_map(encode).collect()
    }

    /// A poison message is counted, logged and left out; the channel goes on.
    fn encode(
        &self,
        scope: &Scope,
        topic: &str,
        topic_bytes: Bytes,
        message: &[u8],
        time: Timestamp,
        position: Position,
    ) -> Option<Outgoing> {
        let binary = self.rules.policies.policy(scope.family()).binary;
        let reason = match Message::parse(message) {
            Ok(message) if message.is_binary() && !binary => "its family takes no binary messages".to_owned(),
            Ok(message) => {
                let frame = message.encode(scope, topic, time, Some(position));
                return Some(Outgoing::new(Some(position), topic_bytes, frame));
            }
            Err(error) => error.to_string(),
        };
        self.counters.messages_bad.add(1);
        tracing::warn!(%scope, %position, reason, "a message was left out");
        None
    }

    fn tell(&mut self, shard: ShardIndex, item: ToShard, bytes: usize) {
        let (items, size) = &mut self.outgoing[shard.0 as usize];
        items.push(item);
        *size += bytes;
    }

    /// Ends the turn: each shard gets its part at once. A shard that is full holds the pump back, and thereby Redis'
    /// socket; Redis then cuts a subscriber that stays behind, and the router repairs from history.
    async fn hand_over(&mut self) {
        for (shard, (items, size)) in self.hub.shards().zip(&mut self.outgoing) {
            if items.is_empty() {
                continue;
            }
            shard.inbox.has_room().await;
            shard.inbox.push_all(items, std::mem::take(size));
        }
    }
}
