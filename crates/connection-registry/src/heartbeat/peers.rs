//! The part of a heartbeat that looks at the peers, and removes those that have died.

use std::time::Instant;

use super::{HeartbeatTask, Peers};
use crate::error::StoreError;
use crate::roster::Change;
use crate::store::Store;

/// So many dead peers are removed in one heartbeat: a fleet that went down as a whole is not buried in one breath.
const REAPED_PER_HEARTBEAT_MAX: usize = 8;

impl<S: Store, L> HeartbeatTask<S, L> {
    /// Reads the peers' heartbeats.
    pub(super) async fn look(&mut self) -> Result<(), StoreError> {
        let heartbeats = self.lease.during(self.store.peers()).await?;
        let seen = Instant::now();
        for change in self.roster.observe(heartbeats, seen) {
            log(&change);
        }
        self.peers.send_replace(Peers {
            own: self.instance.clone(),
            others: self.roster.peers().cloned().collect(),
            seen: Some(seen),
            doubted: self.roster.doubts(),
        });
        Ok(())
    }

    /// Removes peers that have died, with their rows. Instances send heartbeats at different moments, so what the first removes
    /// the others mostly do not see any more; where two ask at once, the store answers one of them.
    pub(super) async fn reap(&mut self) -> Result<(), StoreError> {
        let until = Instant::now() + self.timings.heartbeat / 2;
        for (dead, number) in self.roster.dead().take(REAPED_PER_HEARTBEAT_MAX) {
            let Some(token) = self.lease.held(Instant::now()) else { return Ok(()) };
            if let Some(rows) = self.lease.during(self.store.reap(&self.instance, &token, dead, number)).await? {
                tracing::info!(peer = %dead.id, incarnation = %dead.incarnation, rows, "dead peer removed");
                // Its members have left in the same step, or as many of them as go at once.
                self.members_due = Some(Instant::now());
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
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
