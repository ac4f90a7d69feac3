//! What all instances of one process share: leases, heartbeats, connections, commands, records and members.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wire::{InstanceId, Timestamp};

use super::InstanceIncarnation;
use super::connections::{Commands, Connections};
use super::members::Members;
use super::records::{Found, Records};
use crate::connection_limits::ConnectionLimits;
use crate::connection_row::RowChange;
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::instance_command::InstanceCommand;
use crate::lease::Token;
use crate::load::Heartbeat;
use crate::member::MemberChange;
use crate::restores::{LookupResult, RecordLookup};
use crate::roster::PeerHeartbeat;
use crate::session_close::{CloseReason, SessionClose};
use crate::session_record::ClosedSessionRecord;
use crate::store::{Acquired, DirectoryReply};

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) connections: Connections,
    pub(super) members: Members,
    records: Records,
    /// Number of the newest token.
    tokens: u64,
    leases: HashMap<InstanceId, (Token, Incarnation)>,
    /// Newest heartbeats, and the times at which they were received.
    peers: HashMap<InstanceId, (Instance, Heartbeat, Instant)>,
    /// Commands that incarnations have not fetched yet.
    commands: HashMap<InstanceIncarnation, Vec<InstanceCommand>>,
    /// Notified when there are commands.
    wakeups: HashMap<InstanceId, Arc<Notify>>,
    /// How long a member whose last connection has ended may return.
    grace: Duration,
}

impl Registry {
    pub(super) fn new(limits: ConnectionLimits, grace: Duration, kept_for: Duration) -> Self {
        let (connections, records) = (Connections::new(limits), Records::new(kept_for));
        Self { connections, records, grace, ..Self::default() }
    }

    /// Refuses a token that is not that of the instance's lease.
    pub(super) fn check(&self, id: &InstanceId, token: &Token) -> Result<(), StoreError> {
        match self.leases.get(id) {
            Some((held, _)) if held == token => Ok(()),
            Some(_) => Err(StoreError::Refused(Refusal::Taken)),
            None => Err(StoreError::Refused(Refusal::Expired)),
        }
    }

    pub(super) fn acquire(&mut self, instance: &Instance, heartbeat: Heartbeat) -> Acquired {
        if let Some((_, holder)) = self.leases.get(&instance.id)
            && *holder != instance.incarnation
        {
            return Acquired::Busy { holder: *holder };
        }
        self.tokens += 1;
        let token = Token::from_store(&format!("memory:{}:{}", self.tokens, instance.incarnation));
        self.leases.insert(instance.id.clone(), (token.clone(), instance.incarnation));
        let before = self.receive(instance, heartbeat);
        if let Some(before) = before.as_ref().filter(|before| before.incarnation != instance.incarnation) {
            self.end_members(before);
        }
        Acquired::Granted { token, at: None, before: before.map(|before| before.incarnation) }
    }

    /// Keeps a heartbeat. Returns the instance as its previous heartbeat showed it.
    pub(super) fn receive(&mut self, instance: &Instance, heartbeat: Heartbeat) -> Option<Instance> {
        let before = self.peers.insert(instance.id.clone(), (instance.clone(), heartbeat, Instant::now()));
        before.map(|(before, ..)| before)
    }

    pub(super) fn release(&mut self, instance: &Instance) {
        self.leases.remove(&instance.id);
        self.peers.remove(&instance.id);
        self.remove_all(&incarnation(instance));
        self.end_members(instance);
    }

    pub(super) fn peers(&self) -> Vec<PeerHeartbeat> {
        let heartbeat = |(instance, heartbeat, at): &(Instance, Heartbeat, Instant)| {
            let age = at.elapsed();
            PeerHeartbeat { instance: instance.clone(), number: heartbeat.number, age, load: Some(heartbeat.load) }
        };
        self.peers.values().map(heartbeat).collect()
    }

    /// Whether this heartbeat is the peer's newest one, and the peer has no lease.
    pub(super) fn is_dead(&self, peer: &Instance, number: u64) -> bool {
        let is_newest = |(known, heartbeat, _): &(Instance, Heartbeat, Instant)| {
            known.incarnation == peer.incarnation && heartbeat.number == number
        };
        self.peers.get(&peer.id).is_some_and(is_newest) && !self.leases.contains_key(&peer.id)
    }

    /// Removes a dead peer. Returns how many rows it had.
    pub(super) fn remove_peer(&mut self, dead: &Instance) -> usize {
        self.peers.remove(&dead.id);
        let dead = incarnation(dead);
        self.members.end(&dead, Instant::now());
        self.remove_all(&dead)
    }

    /// Changes rows. Returns the commands to close those connections that are not listed.
    pub(super) fn write_rows(&mut self, own: &InstanceIncarnation, changes: &[RowChange]) -> DirectoryReply {
        let (mut closing, mut commands) = (Vec::new(), Commands::new());
        for change in changes {
            match change {
                RowChange::Put(session, row, latest) => {
                    let why = self.connections.put(own, *session, (row, *latest), &mut commands);
                    let close =
                        |why| InstanceCommand::Session(SessionClose { session: *session, why }, Some(row.connected_at));
                    closing.extend(why.map(close));
                }
                RowChange::Remove(session) => drop(self.connections.remove(own, *session)),
            }
        }
        self.send(commands);
        DirectoryReply { rows: self.connections.count(own), commands: closing }
    }

    /// Number of rows of an incarnation, and the commands for it.
    pub(super) fn fetch(&mut self, own: &InstanceIncarnation) -> DirectoryReply {
        let commands = self.commands.remove(own).unwrap_or_default();
        DirectoryReply { rows: self.connections.count(own), commands }
    }

    pub(super) fn remove_all(&mut self, incarnation: &InstanceIncarnation) -> usize {
        self.commands.remove(incarnation);
        self.connections.remove_all(incarnation)
    }

    pub(super) fn leave_record(&mut self, own: &InstanceIncarnation, left: &ClosedSessionRecord) {
        self.records.leave(own, left, Instant::now());
    }

    /// Takes a record. Other connections of the session that are not certainly newer get commands to close.
    pub(super) fn take_record(&mut self, own: &InstanceIncarnation, lookup: &RecordLookup) -> LookupResult {
        let mut is_awaited = match self.records.take(own, lookup, Instant::now()) {
            Found::Record(record) => return LookupResult::Record(record),
            Found::Taken => true,
            Found::Nothing => false,
        };
        let RecordLookup { ask, latest, .. } = lookup;
        let owner = (ask.tenant.clone(), ask.user.clone());
        for (other, connected_at) in self.connections.listed_elsewhere(own, &owner, ask.session) {
            if connected_at.is_some_and(|connected_at| connected_at > *latest) {
                return LookupResult::Replaced;
            }
            is_awaited = true;
            let close = SessionClose { session: ask.session, why: CloseReason::Replaced };
            self.send(vec![(other, InstanceCommand::Session(close, connected_at))]);
        }
        if is_awaited { LookupResult::Awaited } else { LookupResult::Nothing }
    }

    pub(super) fn change_members(&mut self, own: &InstanceIncarnation, changes: &[MemberChange], now: Timestamp) {
        self.members.change(own, changes, self.grace, (Instant::now(), now));
    }

    pub(super) fn wakeup(&mut self, id: &InstanceId) -> Arc<Notify> {
        Arc::clone(self.wakeups.entry(id.clone()).or_default())
    }

    /// An instance has ended without having died: its members may return within the grace.
    fn end_members(&mut self, ended: &Instance) {
        self.members.end(&incarnation(ended), Instant::now() + self.grace);
    }

    /// Keeps commands until their incarnations fetch them.
    fn send(&mut self, commands: Commands) {
        for (to, command) in commands {
            self.wakeup(&to.0).notify_one();
            let waiting = self.commands.entry(to).or_default();
            if !waiting.contains(&command) {
                waiting.push(command);
            }
        }
    }
}

pub(super) fn incarnation(instance: &Instance) -> InstanceIncarnation {
    (instance.id.clone(), instance.incarnation)
}
