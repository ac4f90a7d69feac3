//! The part of a heartbeat, and of the time between two, that tells who is in which scope.

use std::time::{Duration, Instant};

use super::HeartbeatTask;
use crate::error::StoreError;
use crate::store::{MEMBER_CHANGES_MAX, Store};

impl<S: Store, L> HeartbeatTask<S, L> {
    /// Writes who has come to scopes and who has gone, in bounded batches and for at most half a heartbeat; and has those
    /// leave whose time is over, of whichever instance they were.
    pub(super) async fn sync_presence(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        while let Some(token) = self.lease.held(Instant::now()) {
            if self.presence.take_rewrite() {
                // Time enough to be refused, to ask again and to write everything.
                let within = self.timings.grace + self.timings.reap;
                let rewritten = self.store.rewrite_members(&self.instance, &token, within);
                self.lease.during(rewritten).await.inspect_err(|_| self.presence.rewrite())?;
                continue;
            }
            let batch = self.presence.take(MEMBER_CHANGES_MAX);
            let is_due = self.members_due.is_some_and(|due| due <= Instant::now());
            if batch.is_empty() && !is_due {
                break;
            }
            match self.lease.during(self.store.write_members(&self.instance, &token, &batch)).await {
                // The store counts in whole milliseconds.
                Ok(due) => self.members_due = due.map(|due| Instant::now() + due + Duration::from_millis(1)),
                Err(error) => {
                    self.presence.put_back(batch);
                    return Err(error);
                }
            }
            if started.elapsed() >= self.timings.heartbeat / 2 {
                break;
            }
        }
        Ok(())
    }
}
