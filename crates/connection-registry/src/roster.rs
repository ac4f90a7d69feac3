//! PURE. Which peers are alive, from what the store lists and times handed in.
//!
//! A peer's record carries a heartbeat number. The roster trusts no clock but its own: what counts is for how long the
//! number stood still *while we looked*. An instance that was frozen or cut off for a minute therefore wakes up with
//! no opinion on anybody, and a jump of Redis' clock changes nothing. Only at first sight, when there is nothing to
//! compare, the age of the record by Redis' clock is taken over.
//!
//! When many fall silent together, Redis or a clock is the likelier culprit, and burying them would do harm. Then
//! the roster reports [`Change::ManyVanished`] and gives them twice the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use wire::InstanceId;

use crate::instance::{Instance, Status};
use crate::load::Load;

/// Together means: at least so many, …
const MANY_PEERS_MIN: usize = 2;
/// … and at least one in so many of all peers.
const MANY_ONE_IN: usize = 3;

/// An instance's entry in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHeartbeat {
    /// Who.
    pub instance: Instance,
    /// Counts up by one with each heartbeat of one incarnation.
    pub number: u64,
    /// How old the entry is, by the store's clock.
    pub age: Duration,
    /// What it tells of itself; nothing, if it is of a version that does not.
    pub load: Option<Load>,
}

/// A peer and what we think of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub instance: Instance,
    /// Whether it is alive.
    pub status: Status,
    /// For how long its heartbeat number has not moved while we looked.
    pub silent: Duration,
    /// As of its newest heartbeat; nothing, if it is of a version that does not tell.
    pub load: Option<Load>,
    /// The newest heartbeat number seen.
    pub number: u64,
}

/// What a look at the store brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A peer, or a new incarnation of one, sends heartbeats.
    Joined(Instance),
    /// It has been silent for as long as its lease lasts.
    Suspected(Instance),
    /// It sends heartbeats again, in the incarnation we knew.
    Recovered(Instance),
    /// It is gone: it said goodbye, or it has been silent for too long.
    Left(Instance),
    /// So many peers of all are silent at once that Redis or a clock is suspected. Reported once.
    ManyVanished {
        /// How many are silent.
        silent: usize,
        /// How many there were.
        of: usize,
    },
}

/// All peers of an instance; itself left out.
#[derive(Debug)]
pub(crate) struct Roster {
    /// Ourselves.
    own: InstanceId,
    /// More silence than this makes a peer suspect: the length of a lease.
    suspect_after: Duration,
    /// More than this buries it.
    reap_after: Duration,
    /// No single pause between looks counts for more than this as silence.
    look_max: Duration,
    /// Everybody the store lists, and those it listed until they are buried.
    peers: BTreeMap<InstanceId, Peer>,
    /// When we last looked.
    looked: Option<Instant>,
    /// Whether many are silent.
    doubt: bool,
}

impl Roster {
    /// An empty roster of an instance that looks about every `heartbeat`.
    pub(crate) fn new(own: InstanceId, heartbeat: Duration, suspect_after: Duration, reap_after: Duration) -> Self {
        assert!(heartbeat < suspect_after, "a peer must not be suspect between two heartbeats");
        assert!(suspect_after < reap_after, "a peer is suspect before it is gone");
        Self {
            own,
            suspect_after,
            reap_after,
            look_max: 2 * heartbeat,
            peers: BTreeMap::new(),
            looked: None,
            doubt: false,
        }
    }

    /// All peers, by id.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether so many peers are silent that nobody should be taken over.
    pub(crate) fn doubts(&self) -> bool {
        self.doubt
    }

    /// Whom the store still lists though they are gone, with the newest heartbeat number seen. Nobody while in doubt.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (&Instance, u64)> {
        let dead = self.peers.values().filter(|peer| peer.status == Status::Gone && !self.doubt);
        dead.map(|peer| (&peer.instance, peer.number))
    }

    /// Takes in one look at the store at `now`. There is no sweep without a look: who does not look knows nothing.
    pub(crate) fn observe(&mut self, heartbeats: Vec<PeerHeartbeat>, now: Instant) -> Vec<Change> {
        let pause = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        self.looked = Some(now);
        let mut changes = Vec::new();
        for peer in self.peers.values_mut() {
            peer.silent += pause.min(self.look_max);
        }
        let mut missing: BTreeSet<InstanceId> = self.peers.keys().cloned().collect();
        for heartbeat in heartbeats {
            if heartbeat.instance.id != self.own {
                missing.remove(&heartbeat.instance.id);
                self.hear(heartbeat, &mut changes);
            }
        }
        self.part(&missing, &mut changes);
        self.sweep(&mut changes);
        changes
    }

    /// One listed peer.
    fn hear(&mut self, heartbeat: PeerHeartbeat, changes: &mut Vec<Change>) {
        let PeerHeartbeat { instance, number, age, load } = heartbeat;
        let id = instance.id.clone();
        match self.peers.get_mut(&id) {
            Some(peer) if peer.instance.incarnation == instance.incarnation => {
                if peer.number != number {
                    let was = std::mem::replace(&mut peer.status, Status::Up);
                    (peer.number, peer.silent, peer.instance, peer.load) = (number, Duration::ZERO, instance, load);
                    match was {
                        Status::Up => {}
                        Status::Suspect => changes.push(Change::Recovered(peer.instance.clone())),
                        Status::Gone => changes.push(Change::Joined(peer.instance.clone())),
                    }
                }
            }
            known => {
                let replaced = known.filter(|peer| peer.status != Status::Gone).map(|peer| peer.instance.clone());
                changes.extend(replaced.map(Change::Left));
                // A corpse that the store still lists has not joined.
                let status = if age < self.reap_after { Status::Up } else { Status::Gone };
                if status == Status::Up {
                    changes.push(Change::Joined(instance.clone()));
                }
                self.peers.insert(id, Peer { instance, status, silent: age, load, number });
            }
        }
    }

    /// Peers that the store lists no more. A few have said goodbye; of many, the store has lost the list, and they
    /// are treated as silent until their next heartbeat puts them back on it.
    fn part(&mut self, missing: &BTreeSet<InstanceId>, changes: &mut Vec<Change>) {
        let alive = self.peers.values().filter(|peer| peer.status != Status::Gone).count();
        let leaving = missing.iter().filter(|id| self.peers[*id].status != Status::Gone).count();
        let many = is_many(leaving, alive);
        for id in missing {
            let gone = self.peers[id].status == Status::Gone;
            if (gone || !many)
                && let Some(peer) = self.peers.remove(id)
                && !gone
            {
                changes.push(Change::Left(peer.instance));
            }
        }
    }

    /// Judges everybody by their silence.
    fn sweep(&mut self, changes: &mut Vec<Change>) {
        let alive = || self.peers.values().filter(|peer| peer.status != Status::Gone);
        let (of, silent) = (alive().count(), alive().filter(|peer| peer.silent >= self.suspect_after).count());
        let many = is_many(silent, of);
        if many && !self.doubt {
            changes.push(Change::ManyVanished { silent, of });
        }
        self.doubt = many;
        let reap_after = if many { 2 * self.reap_after } else { self.reap_after };
        for peer in self.peers.values_mut() {
            if peer.status != Status::Gone && peer.silent >= reap_after {
                peer.status = Status::Gone;
                changes.push(Change::Left(peer.instance.clone()));
            } else if peer.status == Status::Up && peer.silent >= self.suspect_after {
                peer.status = Status::Suspect;
                changes.push(Change::Suspected(peer.instance.clone()));
            }
        }
    }
}

/// Whether so many of all is more than the usual deaths.
fn is_many(some: usize, of: usize) -> bool {
    some >= MANY_PEERS_MIN && some * MANY_ONE_IN >= of
}

#[cfg(test)]
mod tests;
