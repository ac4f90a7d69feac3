//! PURE. Which peers are alive, from the store's list of peers and from times handed in.
//!
//! A peer's entry carries a heartbeat number. The roster trusts no clock but its own: it counts for how long the number
//! did not change *while this instance looked*. An instance that was frozen or disconnected for a minute therefore
//! wakes up with no conclusion about any peer, and a jump of Redis' clock changes nothing. Only a peer that is seen for
//! the first time is judged by the age of its entry by Redis' clock.
//!
//! When many peers fall silent together, Redis or a clock is the likely cause, and to remove the peers would do harm.
//! The roster then reports [`Change::ManyVanished`] and waits twice as long.

mod change;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use wire::InstanceId;

use crate::instance::{Instance, Status};

pub(crate) use self::change::Change;
pub use self::peer::{Peer, PeerHeartbeat};

/// Many peers are at least this number of peers …
const MANY_PEERS_MIN: usize = 2;
/// … and at least one in this number of all peers.
const MANY_ONE_IN: usize = 3;

/// All peers of an instance, without the instance itself.
#[derive(Debug)]
pub(crate) struct Roster {
    /// Id of this instance.
    own: InstanceId,
    /// A peer that is silent for longer is suspected. This is the length of a lease.
    suspect_after: Duration,
    /// A peer that is silent for longer is gone.
    reap_after: Duration,
    /// Most silence that a single pause between two looks counts for.
    look_max: Duration,
    /// Peers that the store lists, and peers that it listed until they are gone.
    peers: BTreeMap<InstanceId, Peer>,
    /// Time of the newest look at the store.
    looked: Option<Instant>,
    /// Whether many peers are silent.
    doubt: bool,
}

impl Roster {
    /// An empty roster of an instance that looks at the store about every `heartbeat`.
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

    /// Whether so many peers are silent that none of them is to be removed.
    pub(crate) fn doubts(&self) -> bool {
        self.doubt
    }

    /// Peers that are gone and that the store still lists, each with its newest heartbeat number. None while many peers
    /// are silent.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (&Instance, u64)> {
        let dead = self.peers.values().filter(|peer| peer.status == Status::Gone && !self.doubt);
        dead.map(|peer| (&peer.instance, peer.number))
    }

    /// Takes in the store's list of peers as of `now`. Peers are judged only here: an instance that does not look at
    /// the store learns nothing about its peers.
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
                self.receive(heartbeat, &mut changes);
            }
        }
        self.remove_missing(&missing, &mut changes);
        self.sweep(&mut changes);
        changes
    }

    /// Takes in one entry of the list.
    fn receive(&mut self, heartbeat: PeerHeartbeat, changes: &mut Vec<Change>) {
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
                // A dead peer that the store still lists has not joined.
                let status = if age < self.reap_after { Status::Up } else { Status::Gone };
                if status == Status::Up {
                    changes.push(Change::Joined(instance.clone()));
                }
                self.peers.insert(id, Peer { instance, status, silent: age, load, number });
            }
        }
    }

    /// Takes in which peers the store does not list any more. A few missing peers have stopped. If many are missing,
    /// the store has lost its list; they count as silent until their next heartbeat.
    fn remove_missing(&mut self, missing: &BTreeSet<InstanceId>, changes: &mut Vec<Change>) {
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

    /// Judges all peers by their silence.
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

/// Whether `some` of `of` peers are more than single failures explain.
fn is_many(some: usize, of: usize) -> bool {
    some >= MANY_PEERS_MIN && some * MANY_ONE_IN >= of
}

#[cfg(test)]
mod tests;
