//! The part of a heartbeat, and of the time between two, that tells who is connected here.

use std::time::Instant;

use super::HeartbeatTask;
use crate::error::StoreError;
use crate::load::Load;
use crate::store::{DirectoryReply, ROW_CHANGES_MAX, Store};

impl<S: Store, L: Fn() -> Load + Send + 'static> HeartbeatTask<S, L> {
    /// Writes what changed in the directory and what sessions left, in bounded batches and for at most half a heartbeat: the
    /// lease must be renewed meanwhile. What is left waits for the next one.
    pub(super) async fn sync_directory(&mut self) -> Result<(), StoreError> {
        let until = Instant::now() + self.timings.heartbeat / 2;
        if !self.leave_records(Some(until)).await? {
            return Ok(());
        }
        while let Some(token) = self.lease.held(Instant::now()) {
            if let Some(before) = self.previous_incarnation {
                self.lease.during(self.store.delete_rows(&self.instance, &token, before)).await?;
                self.previous_incarnation = None;
            } else if self.directory.take_rewrite() {
                self.rows_stored = None;
                let own = self.instance.incarnation;
                let deleted = self.lease.during(self.store.delete_rows(&self.instance, &token, own)).await;
                deleted.inspect_err(|_| self.directory.rewrite())?;
                self.rows_stored = Some(0);
            } else {
                let batch = self.directory.take(ROW_CHANGES_MAX, self.clock_offset);
                if batch.is_empty() {
                    break;
                }
                self.rows_stored = None;
                // Whoever is taken out here has left its record before.
                match self.leave_records(Some(until)).await {
                    Ok(true) => {}
                    unfinished => {
                        self.directory.put_back(batch);
                        return unfinished.map(drop);
                    }
                }
                match self.lease.during(self.store.write_rows(&self.instance, &token, &batch)).await {
                    Ok(DirectoryReply { rows, commands }) => {
                        self.rows_stored = Some(rows);
                        self.pass_on(commands);
                    }
                    Err(error) => {
                        self.directory.put_back(batch);
                        return Err(error);
                    }
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.take_records(until).await
    }
}
