//! The part of a heartbeat, and of the time between two, that writes the members of scopes to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::lease_keeper::LeaseKeeper;
use crate::error::StoreError;
use crate::presence::Presence;
use crate::store::{MEMBER_CHANGES_MAX, Store};
use crate::timings::Timings;

/// Writes the members of this instance to the store.
#[derive(Debug)]
pub(super) struct PresenceSync {
    presence: Arc<Presence>,
    /// When the store is to remove a member that no instance holds any more.
    due: Option<Instant>,
    /// Time for a rewrite: enough to be refused, to ask for the lease again and to write all members.
    rewrite_within: Duration,
    /// Longest time of one sync, because the lease must be renewed meanwhile. Later syncs write the remaining changes.
    sync_max: Duration,
}

impl PresenceSync {
    pub(super) fn new(presence: Arc<Presence>, timings: Timings) -> Self {
        let (rewrite_within, sync_max) = (timings.grace + timings.reap, timings.heartbeat / 2);
        Self { presence, due: None, rewrite_within, sync_max }
    }

    /// The store has granted a lease. Between two leases other instances may have removed members, so all are written
    /// again.
    pub(super) fn granted(&self) {
        self.presence.rewrite();
    }

    /// Dead peers have been removed, at `now`. As many of their members as possible have left in the same step. The
    /// next sync removes the others.
    pub(super) fn peers_removed(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Waits until a member has entered or left.
    pub(super) async fn wait_for_changes(&self) {
        self.presence.wait_for_changes().await;
    }

    /// Waits until the store is to remove a member. Waits for ever if no member is due.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Writes which members have entered and left, in bounded batches and for at most `sync_max`. The same calls remove
    /// members that are due, of all instances.
    pub(super) async fn sync<S: Store>(&mut self, keeper: &mut LeaseKeeper, store: &S) -> Result<(), StoreError> {
        let until = Instant::now() + self.sync_max;
        while let Some(held) = keeper.held() {
            if self.presence.take_rewrite() {
                let rewritten = store.rewrite_members(held.instance(), held.token(), self.rewrite_within);
                keeper.during(rewritten).await.inspect_err(|_| self.presence.rewrite())?;
                continue;
            }
            let batch = self.presence.take(MEMBER_CHANGES_MAX);
            let is_due = self.due.is_some_and(|due| due <= Instant::now());
            if batch.is_empty() && !is_due {
                break;
            }
            match keeper.during(store.write_members(held.instance(), held.token(), &batch)).await {
                // The store counts in whole milliseconds.
                Ok(due) => self.due = due.map(|due| Instant::now() + due + Duration::from_millis(1)),
                Err(error) => {
                    self.presence.put_back(batch);
                    return Err(error);
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }
}
