//! The instances' ends of the client sockets: received frames go to the shards, and [`Shard::flush`] writes unsent
//! data, as in the worker.

use message_router::{Joiner, ShardIndex};
use std::sync::Arc;
use wire::{ClientFrame, Scope, SessionId};

use super::instance::{ShardSlot, identity};
use super::schedule::{InstanceRun, SimulatedEvent, Wire};
use super::world::World;
use crate::host::clock::Now;
use crate::session::Session;
use crate::shard::handoff::Opening;
use crate::shard::members::Slot;
use crate::shard::registrations::RegistrationOutcome;
use crate::shard::requests::PumpRequest;
use crate::shard::table::{Shard, Wake};

impl World {
    /// Performs one turn of a shard, with its requests to the pump and its writes.
    pub(super) fn shard_step(&mut self, instance_run: InstanceRun, at: usize, act: impl FnOnce(&mut Shard, Now)) {
        self.step_shard(instance_run, at, |shard_slot, now| act(&mut shard_slot.shard, now));
    }

    /// Like [`Self::shard_step`], with access to the registrations of the connections.
    pub(super) fn step_shard(&mut self, instance_run: InstanceRun, at: usize, act: impl FnOnce(&mut ShardSlot, Now)) {
        let now = self.now();
        let Some(instance) = self.instance(instance_run) else { return };
        act(&mut instance.shards[at], now);
        let mut dirty = Vec::new();
        loop {
            self.forward(instance_run, at);
            let shard = &mut self.instances[instance_run.instance].shards[at].shard;
            shard.take_dirty(&mut dirty);
            if dirty.is_empty() {
                return;
            }
            for slot in dirty.drain(..) {
                self.flush(instance_run, at, slot);
            }
        }
    }

    fn forward(&mut self, instance_run: InstanceRun, at: usize) {
        let index = ShardIndex(u8::try_from(at).expect("few shards"));
        let mut requests = Vec::new();
        let (now, moment) = (self.now(), self.registry.moment(self.schedule.now_ms()));
        let ShardSlot { shard, registrations, .. } = &mut self.instances[instance_run.instance].shards[at];
        registrations.leave_records(shard);
        shard.take_requests(&mut requests);
        let identified = shard.take_identified();
        let RegistrationOutcome { elsewhere, .. } = registrations.register(shard, &identified, now, moment);
        elsewhere.into_iter().for_each(|(other, item)| self.tell_shard(instance_run, other, item));
        for request in requests {
            if let PumpRequest::Join { joiner, scope, .. } = &request {
                self.note_join(instance_run, index, *joiner, scope);
            }
            let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(4));
            let at_ms = self.instances[instance_run.instance].shards[at].to_pump.through(now_ms, delay_ms);
            self.schedule.at(at_ms, SimulatedEvent::ToPump(instance_run, request));
        }
    }

    fn note_join(&mut self, instance_run: InstanceRun, shard: ShardIndex, joiner: Joiner, scope: &Scope) {
        self.joining.insert((instance_run.number, shard, joiner), scope.clone());
        let up = self.instances[instance_run.instance].link.up.as_ref();
        if up.is_some_and(|up| !up.received.contains(scope.as_str())) {
            self.wanted.insert((instance_run.number, scope.clone()), ());
        }
    }

    /// Performs one write to a simulated socket.
    fn flush(&mut self, instance_run: InstanceRun, at: usize, slot: Slot) {
        let now = self.now();
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(12));
        let shard_slot = &mut self.instances[instance_run.instance].shards[at];
        let Some(wire) = shard_slot.wires.get(&slot).copied() else { return };
        let socket = self.clients[wire.client].socket.as_mut().filter(|socket| socket.wire == wire);
        let mut scratch = Vec::with_capacity(512);
        let flushed = shard_slot.shard.flush(slot, now, &mut scratch, |bytes| {
            // Without a reader the kernel accepts the bytes, until the end is noticed.
            let taken = socket.as_ref().map_or(bytes.len(), |socket| socket.room(bytes.len()));
            if let Some(socket) = socket.filter(|_| taken > 0) {
                socket.unread += taken;
                let at_ms = socket.down.through(now_ms, delay_ms);
                self.schedule.at(at_ms, SimulatedEvent::Reads(wire, bytes[..taken].to_vec()));
            }
            Ok(taken)
        });
        flushed.expect("a simulated socket does not fail");
    }

    pub(super) fn second(&mut self, instance_run: InstanceRun) {
        let Some(instance) = self.instance(instance_run) else { return };
        let slots: Vec<(usize, Slot, Wire)> = instance
            .shards
            .iter()
            .enumerate()
            .flat_map(|(at, shard_slot)| shard_slot.wires.iter().map(move |(slot, wire)| (at, *slot, *wire)))
            .collect();
        for (at, slot, wire) in slots {
            let mut is_over = false;
            self.shard_step(instance_run, at, |shard, now| is_over = shard.wake(slot, now) == Wake::Disconnect);
            if is_over {
                self.schedule.after(1, SimulatedEvent::EndSeenByClient(wire));
                self.end_seen_by_server(wire);
            }
        }
        self.schedule.after(1_000, SimulatedEvent::Second(instance_run));
    }

    pub(super) fn opened(&mut self, instance_run: InstanceRun, wire: Wire) {
        let Some(rules) = self.instance(instance_run).map(|instance| Arc::clone(&instance.rules)) else {
            return self.schedule.after(5, SimulatedEvent::EndSeenByClient(wire));
        };
        let identity = identity(&rules, &self.clients[wire.client].user);
        if !self.clients[wire.client].is_on(wire) {
            return;
        }
        let opening = match self.clients[wire.client].stream {
            Some(_) => self.stream_opening(wire.client, identity),
            None => Opening::Authenticated(identity),
        };
        let now = self.now();
        let instance = &mut self.instances[instance_run.instance];
        let at = (0..instance.shards.len()).min_by_key(|at| instance.shards[*at].wires.len()).expect("a shard");
        let session = Session::new(SessionId::from_random(u128::from(wire.number)), None);
        let shard_slot = &mut instance.shards[at];
        let slot = shard_slot.shard.open(session, opening, now);
        shard_slot.shard.first_wake(slot, now);
        shard_slot.registrations.open(slot);
        shard_slot.wires.insert(slot, wire);
        if let Some(socket) = &mut self.clients[wire.client].socket {
            socket.shard_slot = Some((at, slot));
        }
        self.shard_step(instance_run, at, |_, _| ());
    }

    pub(super) fn send_text(&mut self, wire: Wire, text: &str) {
        let Some((instance_run, at, slot)) = self.shard_slot_of(wire) else { return };
        self.shard_step(instance_run, at, |shard, now| {
            shard.peer_alive(slot);
            shard.frame(slot, ClientFrame::parse(text), now);
        });
    }

    pub(super) fn pongs(&mut self, wire: Wire, payload: &[u8]) {
        let Some((instance_run, at, slot)) = self.shard_slot_of(wire) else { return };
        self.shard_step(instance_run, at, |shard, now| {
            shard.peer_alive(slot);
            shard.pong(slot, payload, now);
        });
    }

    pub(super) fn closes(&mut self, wire: Wire, code: u16) {
        let Some((instance_run, at, slot)) = self.shard_slot_of(wire) else { return };
        self.shard_step(instance_run, at, |shard, _| shard.end(slot, Some(code), None));
    }

    pub(super) fn writable(&mut self, wire: Wire) {
        let Some((instance_run, at, slot)) = self.shard_slot_of(wire) else { return };
        self.shard_step(instance_run, at, |shard, _| shard.unblock(slot));
    }

    pub(super) fn end_seen_by_server(&mut self, wire: Wire) {
        for at in 0..self.instances.len() {
            let instance_run = self.instances[at].instance_run;
            for index in 0..self.instances[at].shards.len() {
                let shard_slot = &mut self.instances[at].shards[index];
                let Some(slot) = shard_slot.wires.iter().find(|(_, other)| **other == wire).map(|(slot, _)| *slot)
                else {
                    continue;
                };
                shard_slot.wires.remove(&slot);
                self.step_shard(instance_run, index, |ShardSlot { shard, registrations, .. }, _| {
                    drop(shard.remove(slot));
                    registrations.remove(shard, slot);
                });
            }
        }
    }

    /// Returns the shard and slot of a connection, if its instance still runs.
    fn shard_slot_of(&self, wire: Wire) -> Option<(InstanceRun, usize, Slot)> {
        let socket = self.clients[wire.client].socket.as_ref().filter(|socket| socket.wire == wire)?;
        let (at, slot) = socket.shard_slot?;
        let instance = self
            .instances
            .get(socket.instance_run.instance)
            .filter(|instance| instance.instance_run == socket.instance_run)?;
        (instance.shards[at].wires.get(&slot) == Some(&wire)).then_some((socket.instance_run, at, slot))
    }
}
