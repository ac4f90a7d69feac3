//! The instance's end of its clients' sockets: what comes in goes to the shards, what waits is written as the worker does.

use message_router::{Joiner, ShardIndex};
use wire::{ClientFrame, Scope, SessionId};

use super::instance::{Seat, identity};
use super::schedule::{Happening, Life, Wire};
use super::world::World;
use crate::handoff::Opening;
use crate::hub::FromShard;
use crate::hub::members::Slot;
use crate::hub::seats::Seated;
use crate::hub::shard::{Life as Phase, Shard, Wake};
use crate::rules::Now;
use crate::session::Session;

impl World {
    /// One turn of a shard: what it asks of the pump, and what it writes.
    pub(super) fn shard_turn(&mut self, life: Life, at: usize, act: impl FnOnce(&mut Shard, Now)) {
        self.seat_turn(life, at, |seat, now| act(&mut seat.shard, now));
    }

    /// The same, with its connections' places in the directory.
    pub(super) fn seat_turn(&mut self, life: Life, at: usize, act: impl FnOnce(&mut Seat, Now)) {
        let now = self.now();
        let Some(instance) = self.instance(life) else { return };
        act(&mut instance.shards[at], now);
        let mut dirty = Vec::new();
        loop {
            self.forward(life, at);
            let shard = &mut self.instances[life.instance].shards[at].shard;
            shard.take_dirty(&mut dirty);
            if dirty.is_empty() {
                return;
            }
            for slot in dirty.drain(..) {
                self.flush(life, at, slot);
            }
        }
    }

    fn forward(&mut self, life: Life, at: usize) {
        let index = ShardIndex(u8::try_from(at).expect("few shards"));
        let mut requests = Vec::new();
        let (now, moment) = (self.now(), self.registry.moment(self.schedule.now_ms()));
        let Seat { shard, seats, .. } = &mut self.instances[life.instance].shards[at];
        seats.leave_records(shard);
        shard.take_requests(&mut requests);
        let identified = shard.take_identified();
        let Seated { elsewhere, .. } = seats.seat(shard, &identified, now, moment);
        elsewhere.into_iter().for_each(|(other, item)| self.tell_shard(life, other, item));
        for request in requests {
            if let FromShard::Join { joiner, scope, .. } = &request {
                self.note_join(life, index, *joiner, scope);
            }
            let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(4));
            let at_ms = self.instances[life.instance].shards[at].to_pump.through(now_ms, delay_ms);
            self.schedule.at(at_ms, Happening::ToPump(life, index, request));
        }
    }

    fn note_join(&mut self, life: Life, shard: ShardIndex, joiner: Joiner, scope: &Scope) {
        self.joining.insert((life.number, shard, joiner), scope.clone());
        let up = self.instances[life.instance].link.up.as_ref();
        if up.is_some_and(|up| !up.heard.contains(scope.as_str())) {
            self.wanted.insert((life.number, scope.clone()), ());
        }
    }

    /// One write, as the worker does it.
    fn flush(&mut self, life: Life, at: usize, slot: Slot) {
        let now = self.now();
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(12));
        let seat = &mut self.instances[life.instance].shards[at];
        let Some(wire) = seat.wires.get(&slot).copied() else { return };
        let Some(connection) = seat.shard.connection(slot).filter(|connection| !connection.blocked) else { return };
        if !connection.outbox.is_empty() {
            let mut scratch = Vec::with_capacity(512);
            let bytes = connection.outbox.next_write(&mut scratch);
            let len = bytes.len();
            let socket = self.clients[wire.client].socket.as_mut().filter(|socket| socket.wire == wire);
            // Without a reader the kernel takes it, until somebody notices.
            let taken = socket.as_ref().map_or(len, |socket| socket.room(len));
            if let Some(socket) = socket.filter(|_| taken > 0) {
                socket.unread += taken;
                let at_ms = socket.down.through(now_ms, delay_ms);
                self.schedule.at(at_ms, Happening::Reads(wire, bytes[..taken].to_vec()));
            }
            connection.outbox.advance(taken);
            if taken < len {
                seat.shard.block(slot, now);
            }
        }
        let Some(connection) = seat.shard.connection(slot) else { return };
        let (empty, blocked, phase) = (connection.outbox.is_empty(), connection.blocked, connection.life);
        if empty && phase == Phase::Open {
            seat.shard.resume_replays(slot);
        } else if empty {
            seat.shard.written(slot, now);
        } else if !blocked {
            seat.shard.mark_dirty(slot);
        }
    }

    pub(super) fn second(&mut self, life: Life) {
        let Some(instance) = self.instance(life) else { return };
        let slots: Vec<(usize, Slot, Wire)> = instance
            .shards
            .iter()
            .enumerate()
            .flat_map(|(at, seat)| seat.wires.iter().map(move |(slot, wire)| (at, *slot, *wire)))
            .collect();
        for (at, slot, wire) in slots {
            let mut is_over = false;
            self.shard_turn(life, at, |shard, now| is_over = shard.wake(slot, now) == Wake::Cut);
            if is_over {
                self.schedule.after(1, Happening::EndSeenByClient(wire));
                self.end_seen_by_server(wire);
            }
        }
        self.schedule.after(1_000, Happening::Second(life));
    }

    pub(super) fn opened(&mut self, life: Life, wire: Wire) {
        let Some(instance) = self.instances.get_mut(life.instance).filter(|instance| instance.life == life) else {
            return self.schedule.after(5, Happening::EndSeenByClient(wire));
        };
        let client = &mut self.clients[wire.client];
        let Some(socket) = client.socket.as_mut().filter(|socket| socket.wire == wire) else { return };
        let at = (0..instance.shards.len()).min_by_key(|at| instance.shards[*at].wires.len()).expect("a shard");
        let identity = identity(&instance.rules, &client.user);
        let session = Session::new(SessionId::from_random(u128::from(wire.number)), None);
        let now_ms = self.schedule.now_ms();
        let now = Now { mono_ms: 1_000 + now_ms, unix_ms: super::redis::UNIX_MS + now_ms };
        let seat = &mut instance.shards[at];
        let slot = seat.shard.open(session, Opening::Authenticated(identity), now);
        seat.shard.first_wake(slot, now);
        seat.seats.open(slot);
        seat.wires.insert(slot, wire);
        socket.seat = Some((at, slot));
        self.shard_turn(life, at, |_, _| ());
    }

    pub(super) fn says(&mut self, wire: Wire, text: &str) {
        let Some((life, at, slot)) = self.seat_of(wire) else { return };
        self.shard_turn(life, at, |shard, now| {
            shard.heard(slot);
            shard.frame(slot, ClientFrame::parse(text), now);
        });
    }

    pub(super) fn pongs(&mut self, wire: Wire, payload: &[u8]) {
        let Some((life, at, slot)) = self.seat_of(wire) else { return };
        self.shard_turn(life, at, |shard, now| {
            shard.heard(slot);
            shard.pong(slot, payload, now);
        });
    }

    pub(super) fn closes(&mut self, wire: Wire, code: u16) {
        let Some((life, at, slot)) = self.seat_of(wire) else { return };
        self.shard_turn(life, at, |shard, _| shard.end(slot, Some(code), None));
    }

    pub(super) fn writable(&mut self, wire: Wire) {
        let Some((life, at, slot)) = self.seat_of(wire) else { return };
        self.shard_turn(life, at, |shard, _| shard.unblock(slot));
    }

    pub(super) fn end_seen_by_server(&mut self, wire: Wire) {
        for at in 0..self.instances.len() {
            let life = self.instances[at].life;
            for index in 0..self.instances[at].shards.len() {
                let seat = &mut self.instances[at].shards[index];
                let Some(slot) = seat.wires.iter().find(|(_, other)| **other == wire).map(|(slot, _)| *slot) else {
                    continue;
                };
                seat.wires.remove(&slot);
                self.seat_turn(life, index, |Seat { shard, seats, .. }, _| {
                    drop(shard.remove(slot));
                    seats.remove(shard, slot);
                });
            }
        }
    }

    /// Where an instance that still lives keeps a connection.
    fn seat_of(&self, wire: Wire) -> Option<(Life, usize, Slot)> {
        let socket = self.clients[wire.client].socket.as_ref().filter(|socket| socket.wire == wire)?;
        let (at, slot) = socket.seat?;
        let instance = self.instances.get(socket.life.instance).filter(|instance| instance.life == socket.life)?;
        (instance.shards[at].wires.get(&slot) == Some(&wire)).then_some((socket.life, at, slot))
    }
}
