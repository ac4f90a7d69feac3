//! PURE. The table of one shard: its connections, their sessions and outboxes, and who hears what.
//!
//! ```text
//!   frame from a client ─▶ session ─▶ effects ─▶ ┐             ┌─▶ outboxes, and the list of dirty ones
//!   message from the pump ─────────────────────▶ │ Shard table │
//!   the second hand ───────────────────────────▶ ┘             └─▶ requests to the pump
//! ```
//!
//! It does no I/O and is handed the time; [`super::worker`] reads and writes the sockets.

use std::num::NonZeroU16;
use std::sync::Arc;

use connection_registry::ClosedSessionRecord;
use hashbrown::HashMap;
use message_router::{Gap, Joiner, ShardIndex};
use records::Receipt;
use slab::Slab;
use wire::{BadFrame, ClientFrame, Close, ErrorCode, Notice, Position, Scope, ServerFrame, SessionId};

use crate::auth::token::Identity;
use crate::host::clock::Now;
use crate::metrics::counters::ShardCounters;
use crate::protocol::encoder::Encoder;
use crate::protocol::outbound::Outbound;
use crate::protocol::outgoing::Outgoing;
use crate::session::rules::Lane;
use crate::session::rules::Rules;
use crate::session::{Effect, JoinRequest, PublishRequest, Session, Subscription, Wanted, refuse};
use crate::shard::arrivals::Arrivals;
use crate::shard::catch_up_page::CatchUpPage;
use crate::shard::delivery_confirmation::DeliveryConfirmation;
use crate::shard::handoff::Opening;
use crate::shard::join::{Announced, Join, JoinStage, LiveBuffer};
use crate::shard::members::{ScopeMembers, Slot};
use crate::shard::outbox::{Outbox, Queued};
use crate::shard::publish_reply::{PublishOutcome, PublishReply};
use crate::shard::requests::{FromShard, ReplyTo};

mod catch_up;
mod closing;
mod evict;
mod flush;
mod isolation;
mod latest;
mod listing;
mod presence;
mod receipts;
mod restore;
mod shrink;
mod slow_clients;
mod time;

pub(crate) use closing::ConnectionState;
pub(crate) use flush::Flushed;
pub(crate) use listing::Listing;
use presence::PresenceTable;
pub(crate) use presence::{PresenceList, PresenceUpdate};
pub(crate) use shrink::should_shrink;
use slow_clients::SlowClient;
use time::Ping;
pub(crate) use time::Wake;

/// Everything one shard knows.
#[derive(Debug)]
pub(crate) struct Shard {
    index: ShardIndex,
    rules: Arc<Rules>,
    pub(crate) counters: Arc<ShardCounters>,
    connections: Slab<Connection>,
    scopes: HashMap<Scope, ScopeMembers>,
    joins: HashMap<u64, Join>,
    /// Numbers connections and joiners, so that an answer for one that is gone finds nobody.
    next_number: u64,
    /// When connections got theirs.
    arrivals: Arrivals,
    /// Counts messages, so that a connection with two matching subscriptions gets one copy.
    stamp: u64,
    /// Connections with something to write whose socket is not known to be full.
    dirty: Vec<Slot>,
    /// For the pump.
    requests: Vec<FromShard>,
    /// Sessions whose holder has become known, or has shown a new token.
    identified: Vec<Slot>,
    /// For the receipt buffer.
    receipts: Vec<Receipt>,
    /// Who is in scopes of families with presence.
    presence_table: PresenceTable,
    /// Of sessions that have ended here.
    left: Vec<(Slot, ClosedSessionRecord)>,
    /// The broker is lost.
    is_degraded: bool,
    /// The instance is going away: whoever still comes is sent elsewhere.
    is_draining: bool,
    /// Clients behind the live flow.
    slow_clients: HashMap<Slot, SlowClient>,
    /// Scratch for those whose sockets take nothing.
    slow: Vec<Slot>,
    /// Scratch for effects, so that a ping allocates nothing.
    effects: Vec<Effect>,
}

/// One connection as the table sees it; its socket is the worker's.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    /// The last message queued here (see [`Shard::stamp`]).
    stamp: u64,
    /// When it is to be looked at again; earlier wakes are stale.
    wake_ms: u64,
    /// When the next ping is due.
    ping_ms: u64,
    /// What has become of the last ping.
    ping: Ping,
    /// Listed in `dirty`.
    dirty: bool,
    /// The socket takes nothing now; whoever waits for it flushes.
    pub(crate) blocked: bool,
    /// Since when, if so.
    blocked_ms: u64,
    /// Listed in `behind`.
    is_behind: bool,
    /// Of some scopes it is given the newest of each topic alone.
    is_conflating: bool,
    pub(crate) state: ConnectionState,
    /// What the client is known to have received, if it wants a record of its session.
    confirmation: Option<Box<DeliveryConfirmation>>,
    /// From the last ping that was answered to its pong.
    rtt_ms: Option<NonZeroU16>,
}

/// There is one for each connection, which may cost 2 KiB in all.
const _: () = assert!(size_of::<Connection>() <= 248);

/// How many bytes may wait for one client before a replay pauses.
fn replay_pause_bytes(rules: &Rules) -> usize {
    rules.limits.outbox_bytes_max / 4
}

/// Beyond the bound for messages, so many bytes are left to answers: a client that asks and does not read is closed.
fn answers_bytes_max(rules: &Rules) -> usize {
    rules.limits.outbox_bytes_max / 4
}

/// By how much a table with one row per connection grows: doubling would leave up to half of it empty.
pub(crate) fn growth(len: usize) -> usize {
    (len / 8).max(64)
}

impl Shard {
    pub(crate) fn new(index: ShardIndex, rules: Arc<Rules>, counters: Arc<ShardCounters>) -> Self {
        Self {
            index,
            rules,
            counters,
            connections: Slab::new(),
            scopes: HashMap::new(),
            joins: HashMap::new(),
            next_number: 0,
            arrivals: Arrivals::default(),
            stamp: 0,
            dirty: Vec::new(),
            requests: Vec::new(),
            identified: Vec::new(),
            receipts: Vec::new(),
            presence_table: PresenceTable::default(),
            left: Vec::new(),
            is_degraded: false,
            is_draining: false,
            slow_clients: HashMap::new(),
            slow: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Takes a connection in and begins its session.
    pub(crate) fn open(&mut self, mut session: Session, opening: Opening, now: Now) -> Slot {
        session.await_hello(now.mono_ms + self.rules.limits.hello_timeout_ms);
        let number = self.next_number();
        self.arrivals.note(now.mono_ms, number);
        let ping_ms = now.mono_ms + self.first_ping_ms();
        let connection = Connection {
            number,
            session,
            outbox: Outbox::new(Encoder::WebSocket),
            stamp: 0,
            wake_ms: 0,
            ping_ms,
            ping: Ping::Answered,
            dirty: false,
            blocked: false,
            blocked_ms: 0,
            is_behind: false,
            is_conflating: false,
            state: ConnectionState::Open,
            confirmation: None,
            rtt_ms: None,
        };
        if self.connections.len() == self.connections.capacity() {
            self.connections.reserve_exact(growth(self.connections.len()));
        }
        let slot = Slot::try_from(self.connections.insert(connection)).expect("fewer sockets than descriptors");
        let rules = Arc::clone(&self.rules);
        let mut effects = std::mem::take(&mut self.effects);
        match opening {
            _ if self.is_draining => effects.push(Effect::Close(Close::Restart)),
            Opening::AwaitHello => {}
            Opening::Authenticated(identity) => {
                self.connections[slot as usize].session.open(identity, &rules, &mut effects);
            }
            Opening::Refused { code, close, message, retry_after_ms } => {
                let message = message.into();
                let error = ServerFrame::Error { code, message, channel: None, retry_after_ms, correlation_id: None };
                effects.push(Effect::Refuse(error));
                effects.push(Effect::Close(close));
            }
        }
        self.carry_out(slot, &mut effects);
        self.effects = effects;
        slot
    }

    /// A frame from a client.
    pub(crate) fn frame(&mut self, slot: Slot, frame: Result<ClientFrame<'_>, BadFrame>, now: Now) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.state != ConnectionState::Open {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        connection.session.handle(frame, now, &self.rules, &mut effects);
        self.counters.frames_in.add(1);
        self.carry_out(slot, &mut effects);
        self.effects = effects;
    }

    /// Bytes came from the client: it is alive.
    pub(crate) fn peer_alive(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && connection.ping == Ping::Silent
        {
            connection.ping = Ping::Alive;
        }
    }

    /// Queues a reply to the client itself.
    pub(crate) fn reply(&mut self, slot: Slot, reply: &ServerFrame<'_>) {
        if let Some(connection) = self.connections.get(slot as usize) {
            self.answer(slot, connection.outbox.format().reply(reply));
        }
    }

    /// Queues what a transport answers by itself, such as a pong.
    pub(crate) fn answer(&mut self, slot: Slot, outbound: Outbound) {
        if self.connections.get(slot as usize).is_some_and(|connection| connection.state == ConnectionState::Open) {
            self.queue_outbound(slot, Lane::CONTROL, outbound);
        }
    }

    /// Messages of one scope, in order, for everybody here who wants them.
    ///
    /// An outbox is bounded while its socket takes nothing: a client that reads must not be taken for a slow one because
    /// much came at once. What waits for the first write is bounded by the shard's inbox, and shared by all receivers.
    pub(crate) fn deliver(&mut self, scope: &Scope, messages: &[Outgoing]) -> u64 {
        let lane = self.rules.lane(scope);
        let mut slow = std::mem::take(&mut self.slow);
        let mut receivers = 0;
        let mut rest = messages;
        while let Some(members) = self.scopes.get_mut(scope) {
            let (connections, dirty) = (&mut self.connections, &mut self.dirty);
            let mut done = 0;
            for message in rest {
                self.stamp += 1;
                let stamp = self.stamp;
                let mut send = |slot: Slot| {
                    let connection = &mut connections[slot as usize];
                    if connection.stamp == stamp {
                        return;
                    }
                    connection.stamp = stamp;
                    if connection.blocked | connection.is_conflating {
                        return slow.push(slot);
                    }
                    connection.outbox.append(lane, Outbound::Message(message.clone()));
                    receivers += 1;
                    if !connection.dirty {
                        connection.dirty = true;
                        dirty.push(slot);
                    }
                };
                let topic = message.topic();
                members.exact(topic).iter().for_each(|slot| send(*slot));
                members.wildcards(topic).for_each(&mut send);
                if message.position().is_none() {
                    let joins = members.reading().iter().filter_map(|joiner| self.joins.get(joiner));
                    joins.filter(|join| join.takes_local(topic)).for_each(|join| send(join.slot));
                }
                if !slow.is_empty() {
                    break;
                }
                buffer_for_joins(members, &mut self.joins, message);
                done += 1;
            }
            let Some((message, behind)) = rest[done..].split_first() else { break };
            // Whoever falls behind because of this message is to hear it as a joiner, or to read it later.
            receivers += self.deliver_slowly(scope, message, &mut slow);
            if let Some(members) = self.scopes.get_mut(scope) {
                buffer_for_joins(members, &mut self.joins, message);
            }
            rest = behind;
        }
        self.slow = slow;
        self.counters.deliveries.add(receivers);
        receivers
    }

    /// A word to one session, apart from all channels.
    pub(crate) fn notice(&mut self, session: SessionId, notice: Notice) {
        let reply = ServerFrame::Notice(notice);
        self.connections_of(session).into_iter().for_each(|slot| self.reply(slot, &reply));
    }

    /// The broker's answer to a publish.
    pub(crate) fn published(&mut self, to: ReplyTo, answer: &PublishReply) {
        let Some(connection) = self.connections.get(to.slot as usize) else { return };
        if connection.number != to.number {
            return;
        }
        self.reply(to.slot, &answer.frame());
        if matches!(answer.outcome, PublishOutcome::Failed(_) | PublishOutcome::Refused(_)) {
            self.counters.errors.add(1);
        }
    }

    /// Messages of a scope may be missing: those who hold it live are told, per subscription.
    pub(crate) fn gap(&mut self, scope: &Scope, gap: Gap) {
        let Some(members) = self.scopes.get_mut(scope) else { return };
        let lane = self.rules.lane(scope);
        // What it had come to may have been lost: nobody is to be moved there any more.
        members.top = gap.upto;
        let mut slots: Vec<Slot> = members.all().collect();
        slots.sort_unstable();
        slots.dedup();
        for joiner in members.joining() {
            if let Some(join) = self.joins.get_mut(&joiner) {
                join.break_off(gap);
            }
        }
        for slot in slots {
            self.flush_conflated(slot);
            let live = |s: &&Subscription| s.live && s.pattern.scope == *scope;
            let subscriptions = self.connections[slot as usize].session.subscriptions.iter().filter(live);
            let replies: Vec<ServerFrame<'_>> =
                subscriptions.map(|s| catch_up::gap_reply(s.pattern.to_string(), gap)).collect();
            // First: making room for the gap must not let go of what stands before it.
            self.raise_floor(slot, scope, gap.upto.max(gap.after.unwrap_or_default()));
            for reply in replies {
                self.counters.gaps.add(1);
                self.queue(slot, lane, &reply);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn connection(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)
    }

    /// Whether the pump has been asked something since the last call, and what.
    pub(crate) fn take_requests(&mut self, into: &mut Vec<FromShard>) {
        into.append(&mut self.requests);
    }

    /// Connections whose holder has become known since the last call, or has shown a new token, or that want a record.
    pub(crate) fn take_identified(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.identified)
    }

    /// A session, and who holds it.
    pub(crate) fn holder(&self, slot: Slot) -> Option<(&Session, &Identity)> {
        let session = &self.connections.get(slot as usize)?.session;
        Some((session, session.identity()?))
    }

    /// Takes the connections to write to, unmarking them.
    pub(crate) fn take_dirty(&mut self, into: &mut Vec<Slot>) {
        for slot in &self.dirty {
            if let Some(connection) = self.connections.get_mut(*slot as usize) {
                connection.dirty = false;
            }
        }
        into.append(&mut self.dirty);
    }

    /// Does what a session decided.
    fn carry_out(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(lane, reply) => self.queue(slot, lane, &reply),
                Effect::Refuse(error) => {
                    self.counters.errors.add(1);
                    self.queue(slot, Lane::CONTROL, &error);
                }
                Effect::Opened if self.is_degraded => {
                    self.reply(slot, &ServerFrame::Degraded { degraded: true });
                }
                Effect::Opened => {}
                Effect::Identified => self.identified.push(slot),
                Effect::Join(request) => self.join(slot, request),
                Effect::KeepRecord => self.keep_record(slot),
                Effect::Restore => self.begin_restore(slot),
                Effect::Leave(subscription) => {
                    if let Some(confirmation) = &mut self.connections[slot as usize].confirmation {
                        confirmation.forget(&subscription.pattern);
                    }
                    self.leave(slot, &subscription);
                }
                Effect::Publish(request) => self.publish(slot, request),
                Effect::Receipt(request) => self.receipt(slot, request),
                Effect::Presence(request) => self.watch(slot, request),
                Effect::Close(close) => {
                    self.close(slot, close);
                }
            }
        }
    }

    fn publish(&mut self, slot: Slot, request: PublishRequest) {
        let PublishRequest { user, channel, id, message, correlation_id } = request;
        let number = self.connections[slot as usize].number;
        let from = ReplyTo { shard: self.index, slot, number };
        self.requests.push(FromShard::Publish { from, user, channel, id, message, correlation_id });
    }

    /// Lists a connection for the next writing turn, unless its socket is full.
    pub(crate) fn mark_dirty(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        if !connection.dirty && !connection.blocked {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Queues a reply in the format of its connection.
    fn queue(&mut self, slot: Slot, lane: Lane, reply: &ServerFrame<'_>) {
        let outbound = self.connections[slot as usize].outbox.format().reply(reply);
        self.queue_outbound(slot, lane, outbound);
    }

    /// Queues what is no message. It is never dropped: messages leave it room, and a client for which there is none left
    /// is closed.
    fn queue_outbound(&mut self, slot: Slot, lane: Lane, outbound: Outbound) {
        let bytes_max = match lane {
            // The close frames themselves always find room.
            Lane::CLOSE => usize::MAX,
            _ => self.bytes_max(slot).saturating_add(answers_bytes_max(&self.rules)),
        };
        if self.push(slot, lane, outbound.clone(), bytes_max) == Queued::Full {
            self.evict_queued(slot, self.rules.limits.outbox_bytes_max / 2);
            if self.push(slot, lane, outbound, bytes_max) == Queued::Full {
                self.close_slow(slot);
            }
        }
    }

    /// Queues an entry for a connection that is not being closed: behind an entry that was dropped there is nothing but
    /// the close, or the client would take the hole for the end.
    fn push(&mut self, slot: Slot, lane: Lane, outbound: Outbound, bytes_max: usize) -> Queued {
        let connection = &mut self.connections[slot as usize];
        if connection.state != ConnectionState::Open && lane != Lane::CLOSE {
            return Queued::Yes;
        }
        let before = connection.outbox.cost();
        let queued = connection.outbox.push(lane, outbound, bytes_max);
        if connection.blocked {
            self.counters.backlog.add(connection.outbox.cost() - before);
        }
        self.mark_dirty(slot);
        queued
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// Those who catch up hear a message that history has too, and the scope is at it.
fn buffer_for_joins(members: &mut ScopeMembers, joins: &mut HashMap<u64, Join>, message: &Outgoing) {
    let Some(position) = message.position() else { return };
    for joiner in members.reading() {
        if let Some(join) = joins.get_mut(joiner) {
            join.receive(message);
        }
    }
    members.top = members.top.max(position);
}

#[cfg(test)]
mod tests;
