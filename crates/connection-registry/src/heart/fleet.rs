//! The part of a beat that looks at the peers, and removes those that have died.

use std::time::Instant;

use super::{Heart, Peers};
use crate::error::StoreError;
use crate::roster::Change;
use crate::store::Store;

/// So many dead peers are removed in one beat: a fleet that went down as a whole is not buried in one breath.
const REAPED_PER_BEAT_MAX: usize = 8;

impl<S: Store, L> Heart<S, L> {
    /// Reads the peers' beats.
    pub(super) async fn look(&mut self) -> Result<(), StoreError> {
        let beats = self.lease.during(self.store.peers()).await?;
        let seen = Instant::now();
        for change in self.roster.observe(beats, seen) {
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

    /// Removes peers that have died, with their rows. Instances beat at different moments, so what the first removes
    /// the others mostly do not see any more; where two ask at once, the store answers one of them.
    pub(super) async fn reap(&mut self) -> Result<(), StoreError> {
        let until = Instant::now() + self.timings.beat / 2;
        for (dead, number) in self.roster.dead().take(REAPED_PER_BEAT_MAX) {
            let Some(token) = self.lease.held(Instant::now()) else { return Ok(()) };
            if let Some(rows) = self.lease.during(self.store.reap(&self.instance, &token, dead, number)).await? {
                tracing::info!(id = %dead.id, incarnation = %dead.incarnation, rows, "removed a dead peer");
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
            tracing::info!(id = %peer.id, incarnation = %peer.incarnation, address = &*peer.address, "a peer joined");
        }
        Change::Suspected(peer) => tracing::warn!(id = %peer.id, "a peer is silent for as long as its lease lasts"),
        Change::Recovered(peer) => tracing::info!(id = %peer.id, "a silent peer beats again"),
        Change::Left(peer) => tracing::info!(id = %peer.id, incarnation = %peer.incarnation, "a peer left"),
        Change::ManyVanished { silent, of } => {
            tracing::error!(silent, of, "so many peers fell silent at once that Redis or a clock is suspected");
        }
    }
}
