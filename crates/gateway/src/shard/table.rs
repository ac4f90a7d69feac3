//! PURE. The table of one shard: its connections, their sessions and outboxes, and the subscriptions of each scope.
//!
//! ```text
//!   frame from a client ─▶ session ─▶ effects ─▶ ┐             ┌─▶ outboxes, and the list of dirty ones
//!   message from the pump ─────────────────────▶ │ Shard table │
//!   the second hand ───────────────────────────▶ ┘             └─▶ requests to the pump
//! ```
//!
//! The table does no I/O, and its caller passes the time. [`super::worker`] reads and writes the sockets.

use std::num::NonZeroU16;
use std::sync::Arc;

use connection_registry::ClosedSessionRecord;
use hashbrown::HashMap;
use message_router::{Gap, Joiner, ShardIndex};
use records::Receipt;
use wire::{BadFrame, ClientFrame, Close, ErrorCode, Notice, Position, Scope, ServerFrame, SessionId};

use crate::auth::token::Identity;
use crate::host::clock::Now;
use crate::metrics::counters::ShardCounters;
use crate::metrics::refusal_log::RefusedClient;
use crate::protocol::encoder::Encoder;
use crate::protocol::event_stream::EventStream;
use crate::protocol::outbound::Outbound;
use crate::protocol::outgoing::Outgoing;
use crate::session::publish::PublishRequest;
use crate::session::rules::Lane;
use crate::session::rules::Rules;
use crate::session::{Effect, Expiry, JoinRequest, Session, Subscription, Wanted, WantedSession, refuse};
use crate::shard::catch_up_page::CatchUpPage;
use crate::shard::delivery_confirmation::DeliveryConfirmation;
use crate::shard::handoff::{EventStreamOpening, Opening};
use crate::shard::join::{Announced, Join, JoinStage, LiveBuffer};
use crate::shard::members::Slot;
use crate::shard::outbox::{Outbox, Queued};
use crate::shard::publish_reply::PublishReply;
use crate::shard::requests::{PumpRequest, ReplyTo};

mod catch_up;
mod closing;
mod connection;
mod connections;
mod evict;
mod flush;
mod isolation;
mod latest;
mod listing;
mod presence;
mod receipts;
mod restore;
mod session_records;
mod shrink;
mod slow_clients;
mod subscriptions;
mod time;
mod unauthenticated;

pub(crate) use closing::ConnectionState;
use connection::Connection;
use connections::Connections;
pub(crate) use flush::Flushed;
use presence::PresenceTable;
pub(crate) use presence::PresenceUpdate;
use session_records::SessionRecords;
use shrink::TABLE_KEPT;
pub(crate) use shrink::{growth, should_shrink};
use slow_clients::SlowClients;
use subscriptions::Subscriptions;
use time::Ping;
pub(crate) use time::Wake;
use unauthenticated::Unauthenticated;

/// The state of one shard.
#[derive(Debug)]
pub(crate) struct Shard {
    index: ShardIndex,
    rules: Arc<Rules>,
    pub(crate) counters: Arc<ShardCounters>,
    connections: Connections,
    subscriptions: Subscriptions,
    slow_clients: SlowClients,
    presence: PresenceTable,
    records: SessionRecords,
    unauthenticated: Unauthenticated,
    /// The last number given to a connection or a join.
    next_number: u64,
    /// Requests to the pump that have not been taken yet.
    requests: Vec<PumpRequest>,
    /// Sessions to register: their user has become known, or they have shown a new token, or they want a record.
    identified: Vec<Slot>,
    /// Clients that were refused since the last call, for the log. No more than [`REFUSED_MAX`].
    refused: Vec<(Slot, RefusedClient)>,
    /// Receipts that the receipt buffer has not taken yet.
    receipts: Vec<Receipt>,
    /// Whether the broker is unreachable.
    is_degraded: bool,
    /// Whether the instance is shutting down. New clients are then sent to other instances.
    is_draining: bool,
    /// Scratch for effects, so that a ping allocates nothing.
    effects: Vec<Effect>,
}

impl Shard {
    pub(crate) fn new(index: ShardIndex, rules: Arc<Rules>, counters: Arc<ShardCounters>) -> Self {
        Self {
            index,
            connections: Connections::new(rules.limits.outbox_bytes_max, Arc::clone(&counters)),
            subscriptions: Subscriptions::default(),
            slow_clients: SlowClients::default(),
            presence: PresenceTable::default(),
            records: SessionRecords::default(),
            unauthenticated: Unauthenticated::default(),
            next_number: 0,
            requests: Vec::new(),
            identified: Vec::new(),
            refused: Vec::new(),
            receipts: Vec::new(),
            is_degraded: false,
            is_draining: false,
            effects: Vec::new(),
            rules,
            counters,
        }
    }

    /// Adds a connection and starts its session.
    pub(crate) fn open(&mut self, mut session: Session, opening: Opening, now: Now) -> Slot {
        session.await_hello(now.mono_ms + self.rules.limits.hello_timeout_ms);
        let number = self.next_number();
        let ping_ms = now.mono_ms + self.first_ping_ms();
        let slot = self.connections.insert(Connection::new(number, session, ping_ms), now.mono_ms);
        let rules = Arc::clone(&self.rules);
        let mut effects = std::mem::take(&mut self.effects);
        match opening {
            _ if self.is_draining => effects.push(Effect::Close(Close::Restart)),
            Opening::AwaitHello => {}
            Opening::EventStream(opening) => {
                let EventStreamOpening { head, identity, session: named, channels, presence } = *opening;
                let named_positions: Vec<_> = channels.iter().map(|r| (r.channel.to_string(), r.position)).collect();
                let connection = &mut self.connections[slot];
                let session = &mut connection.session;
                let wanted = WantedSession { named, channels, presence: &presence };
                session.open_subscribed(identity, wanted, now, &rules, &mut effects);
                let subscribed = session.subscriptions.iter().map(|subscription| {
                    let channel = subscription.pattern.to_string();
                    let position = named_positions.iter().find(|(name, _)| *name == channel).and_then(|(_, at)| *at);
                    (subscription.pattern.clone(), position)
                });
                let stream = EventStream::new(session.id(), subscribed);
                connection.outbox = Outbox::new(Encoder::EventStream(Box::new(stream)));
                connection.outbox.append(Lane::CONTROL, Outbound::Frame(head));
                self.connections.mark_dirty(slot);
            }
            Opening::Authenticated(identity) => {
                self.connections[slot].session.open(identity, now, &rules, &mut effects);
            }
            Opening::Refused { code, close, message, retry_after_ms } => {
                let message = message.into();
                let error = ServerFrame::Error { code, message, channel: None, retry_after_ms, correlation_id: None };
                effects.push(Effect::Refuse(error));
                effects.push(Effect::Close(close));
            }
        }
        self.note_unauthenticated(slot);
        self.carry_out(slot, &mut effects);
        // A refused client has closed by now, and costs nobody a place.
        self.limit_unauthenticated();
        self.effects = effects;
        slot
    }

    /// Handles a frame from a client.
    pub(crate) fn frame(&mut self, slot: Slot, frame: Result<ClientFrame<'_>, BadFrame>, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.state != ConnectionState::Open {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        let was_unauthenticated = connection.is_unauthenticated();
        connection.session.handle(frame, now, &self.rules, &mut effects);
        if was_unauthenticated && !connection.is_unauthenticated() {
            self.forget_unauthenticated();
        }
        self.counters.frames_in.add(1);
        self.carry_out(slot, &mut effects);
        self.effects = effects;
    }

    /// Notes that bytes came from the client, so the connection is alive.
    pub(crate) fn peer_alive(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.get_mut(slot)
            && connection.ping == Ping::Silent
        {
            connection.ping = Ping::Alive;
        }
    }

    /// Whether a connection's client answers pings and close frames.
    pub(crate) fn has_answers(&self, slot: Slot) -> bool {
        self.connections.get(slot).is_none_or(|connection| connection.outbox.format().has_answers())
    }

    /// Queues a reply to one client.
    pub(crate) fn reply(&mut self, slot: Slot, reply: &ServerFrame<'_>) {
        if let Some(connection) = self.connections.get(slot) {
            let outbound = connection.outbox.format().reply(reply);
            self.count_error(reply);
            self.answer(slot, outbound);
        }
    }

    /// Queues an answer of the transport itself, for example a pong.
    pub(crate) fn answer(&mut self, slot: Slot, outbound: Outbound) {
        if self.connections.is_open(slot) {
            self.queue_outbound(slot, Lane::CONTROL, outbound);
        }
    }

    /// Queues messages of one scope, in order, for every subscriber on this shard.
    ///
    /// An outbox is bounded only while its socket is full. Otherwise a client that reads fast enough would count as
    /// slow when many messages come at once. Messages that wait for their first write are bounded by the shard's inbox,
    /// and all receivers share them.
    pub(crate) fn deliver(&mut self, scope: &Scope, messages: &[Outgoing]) -> u64 {
        let lane = self.rules.lane(scope);
        let (mut slow, mut receivers, mut rest) = (self.slow_clients.take_scratch(), 0, messages);
        while let Some((done, queued)) = self.subscriptions.deliver(scope, rest, lane, &mut self.connections, &mut slow)
        {
            receivers += queued;
            let Some((message, behind)) = rest[done..].split_first() else { break };
            // A client that falls behind because of this message receives it from the live buffer of its join, or reads
            // it later.
            receivers += self.deliver_slowly(scope, message, &mut slow);
            self.subscriptions.buffer(scope, message);
            rest = behind;
        }
        self.slow_clients.give_scratch(slow);
        self.counters.deliveries.add(receivers);
        receivers
    }

    /// Sends a notice to the connections of one session. A notice belongs to no channel.
    pub(crate) fn notice(&mut self, session: SessionId, notice: Notice) {
        let reply = ServerFrame::Notice(notice);
        self.connections.of_session(session).into_iter().for_each(|slot| self.reply(slot, &reply));
    }

    /// Sends the broker's answer to the client that published.
    pub(crate) fn published(&mut self, to: ReplyTo, answer: &PublishReply) {
        let ReplyTo { slot, number, correlation_id, .. } = to;
        if self.connections.get(slot).is_none_or(|connection| connection.number != number) {
            return;
        }
        self.reply(slot, &answer.frame(correlation_id.as_deref()));
    }

    /// Messages of a scope may be missing. Sends a gap for each live subscription of the scope.
    pub(crate) fn gap(&mut self, scope: &Scope, gap: Gap) {
        let lane = self.rules.lane(scope);
        for slot in self.subscriptions.break_off(scope, gap) {
            self.flush_conflated(slot);
            let live = |s: &&Subscription| s.live && s.pattern.scope == *scope;
            let subscriptions = self.connections[slot].session.subscriptions.iter().filter(live);
            let replies: Vec<ServerFrame<'_>> =
                subscriptions.map(|s| catch_up::gap_reply(s.pattern.to_string(), gap)).collect();
            // The floor is raised first: making room for the gap must not evict messages that were queued before it.
            self.raise_floor(slot, scope, gap.upto.max(gap.after.unwrap_or_default()));
            for reply in replies {
                self.counters.gaps.add(1);
                self.queue(slot, lane, &reply);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn connection(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.connections.get_mut(slot)
    }

    /// Moves the requests to the pump since the last call into `into`.
    pub(crate) fn take_requests(&mut self, into: &mut Vec<PumpRequest>) {
        into.append(&mut self.requests);
    }

    /// Connections since the last call whose user has become known, that have shown a new token, or that want a record.
    pub(crate) fn take_identified(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.identified)
    }

    /// The session of a connection and its user, if the user is known.
    pub(crate) fn holder(&self, slot: Slot) -> Option<(&Session, &Identity)> {
        let session = &self.connections.get(slot)?.session;
        Some((session, session.identity()?))
    }

    /// The clients that were refused since the last call.
    pub(crate) fn take_refused(&mut self) -> Vec<(Slot, RefusedClient)> {
        std::mem::take(&mut self.refused)
    }

    /// Takes the list of connections to write to, and unmarks them.
    pub(crate) fn take_dirty(&mut self, into: &mut Vec<Slot>) {
        self.connections.take_dirty(into);
    }

    /// Carries out the effects of a session.
    fn carry_out(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let mut reason = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(lane, reply) => self.queue(slot, lane, &reply),
                Effect::Refuse(error) => {
                    self.queue(slot, Lane::CONTROL, &error);
                    if let ServerFrame::Error { message, .. } = error {
                        reason = Some(message.into_owned());
                    }
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
                    if let Some(confirmation) = &mut self.connections[slot].confirmation {
                        confirmation.forget(&subscription.pattern);
                    }
                    self.leave(slot, &subscription);
                }
                Effect::Publish(request, correlation_id) => self.publish(slot, request, correlation_id),
                Effect::Receipt(request) => self.receipt(slot, request),
                Effect::Presence(request) => self.watch(slot, request),
                Effect::Close(close) => {
                    self.close_because(slot, close, reason.take());
                }
            }
        }
    }

    fn publish(&mut self, slot: Slot, request: PublishRequest, correlation_id: Option<Box<str>>) {
        let number = self.connections[slot].number;
        let reply_to = ReplyTo { shard: self.index, slot, number, correlation_id };
        self.requests.push(PumpRequest::Publish(request, reply_to));
    }

    /// Queues a reply in the format of its connection.
    fn queue(&mut self, slot: Slot, lane: Lane, reply: &ServerFrame<'_>) {
        let outbound = self.connections[slot].outbox.format().reply(reply);
        self.count_error(reply);
        self.queue_outbound(slot, lane, outbound);
    }

    fn count_error(&self, reply: &ServerFrame<'_>) {
        if let ServerFrame::Error { code, .. } = reply {
            self.counters.errors.count(&ErrorCode::ALL, *code);
        }
    }

    /// Queues a reply or a control frame, never a message. It is not dropped: queued messages are evicted to make room.
    /// If there is still no room, the client is closed.
    fn queue_outbound(&mut self, slot: Slot, lane: Lane, outbound: Outbound) {
        let bytes_max = match lane {
            // Close frames always find room.
            Lane::CLOSE => usize::MAX,
            _ => self.connections.bytes_max(slot).saturating_add(self.rules.limits.answers_bytes_max()),
        };
        if self.connections.push(slot, lane, outbound.clone(), bytes_max) == Queued::Full {
            let keep = self.connections.bytes_max(slot).saturating_sub(self.rules.limits.outbox_bytes_max / 2);
            self.evict_queued(slot, keep);
            if self.connections.push(slot, lane, outbound, bytes_max) == Queued::Full {
                self.close_slow(slot);
            }
        }
    }

    /// Shrinks the tables after many connections have closed.
    pub(crate) fn shrink(&mut self) {
        self.connections.shrink();
        self.subscriptions.shrink();
        self.slow_clients.shrink();
        self.identified.shrink_to(TABLE_KEPT);
        self.requests.shrink_to(TABLE_KEPT);
        self.receipts.shrink_to(TABLE_KEPT);
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

#[cfg(test)]
mod tests;
