//! The part of a heartbeat that watches the peers, and removes dead ones.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::lease_keeper::LeaseKeeper;
use super::peers::Peers;
use crate::error::StoreError;
use crate::instance::Instance;
use crate::roster::{Change, Roster};
use crate::store::Store;
use crate::timings::Timings;

/// Most dead peers that are removed in one heartbeat. After the failure of a whole fleet the work is spread over
/// several.
const REAPED_PER_HEARTBEAT_MAX: usize = 8;

/// The peers of this instance.
#[derive(Debug)]
pub(super) struct PeerWatch {
    roster: Roster,
    peers: watch::Sender<Peers>,
    /// Longest time that removals may take in one heartbeat.
    reap_max: Duration,
}

impl PeerWatch {
    /// The peers of `own`. Also returns the receiver of what is known about them.
    pub(super) fn new(own: &Instance, timings: Timings) -> (Self, watch::Receiver<Peers>) {
        let peers = Peers { own: own.clone(), others: Vec::new(), seen: None, doubted: false };
        let (peers, receiver) = watch::channel(peers);
        let roster = Roster::new(own.id.clone(), timings.heartbeat, timings.lease, timings.reap);
        (Self { roster, peers, reap_max: timings.heartbeat / 2 }, receiver)
    }

    /// Reads the peers' heartbeats.
    pub(super) async fn look<S: Store>(&mut self, keeper: &mut LeaseKeeper, store: &S) -> Result<(), StoreError> {
        let heartbeats = keeper.during(store.peers()).await?;
        let seen = Instant::now();
        for change in self.roster.observe(heartbeats, seen) {
            log(&change);
        }
        self.peers.send_replace(Peers {
            own: keeper.instance().clone(),
            others: self.roster.peers().cloned().collect(),
            seen: Some(seen),
            doubted: self.roster.doubts(),
        });
        Ok(())
    }

    /// Removes dead peers, with their rows. Returns how many were removed, also if a later call failed. Instances send
    /// heartbeats at different moments, so one instance mostly removes a peer before the others look. If two ask at the
    /// same time, the store removes the peer for one of them.
    pub(super) async fn reap<S: Store>(
        &mut self,
        keeper: &mut LeaseKeeper,
        store: &S,
    ) -> (usize, Result<(), StoreError>) {
        let (mut removed, until) = (0, Instant::now() + self.reap_max);
        for (dead, number) in self.roster.dead().take(REAPED_PER_HEARTBEAT_MAX) {
            let Some(held) = keeper.held() else { break };
            match keeper.during(store.reap(held.instance(), held.token(), dead, number)).await {
                Ok(Some(rows)) => {
                    tracing::info!(peer = %dead.id, incarnation = %dead.incarnation, rows, "dead peer removed");
                    removed += 1;
                }
                Ok(None) => {}
                Err(error) => return (removed, Err(error)),
            }
            if Instant::now() >= until {
                break;
            }
        }
        (removed, Ok(()))
    }
}

fn log(change: &Change) {
    match change {
        Change::Joined(peer) => {
            tracing::info!(peer = %peer.id, incarnation = %peer.incarnation, address = &*peer.address, "peer joined");
        }
        Change::Suspected(peer) => tracing::warn!(peer = %peer.id, "peer suspected"),
        Change::Recovered(peer) => tracing::info!(peer = %peer.id, "peer recovered"),
        Change::Left(peer) => tracing::info!(peer = %peer.id, incarnation = %peer.incarnation, "peer left"),
        Change::ManyVanished { silent, of } => {
            tracing::error!(silent, of, "many peers silent at once: Redis or a clock is suspected");
        }
    }
}
