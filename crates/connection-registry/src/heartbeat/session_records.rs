//! Sessions' records: those that connections have left are written, those that new ones ask for are taken.

use std::time::Instant;

use super::HeartbeatTask;
use crate::error::StoreError;
use crate::restores::RecordLookup;
use crate::session_command::SessionCommand;
use crate::store::{ROW_CHANGES_MAX, Store};

/// So much of sessions' records in one call.
const RECORDS_BYTES_MAX: usize = 256 * 1024;

impl<S: Store, L> HeartbeatTask<S, L> {
    /// Before the rows: a session is listed or has a record. Whether all have been written by then.
    pub(super) async fn leave_records(&mut self, until: Option<Instant>) -> Result<bool, StoreError> {
        while let Some(token) = self.lease.held(Instant::now()) {
            let mut left = self.directory.restores().take_left(ROW_CHANGES_MAX, RECORDS_BYTES_MAX);
            if left.is_empty() {
                return Ok(true);
            }
            if let Some(clock_offset) = self.clock_offset {
                left.iter_mut().for_each(|left| left.since = clock_offset.earliest(left.arrival));
            }
            let written = self.lease.during(self.store.leave_records(&self.instance, &token, &left)).await;
            written.inspect_err(|_| self.directory.restores().put_back(left))?;
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        Ok(false)
    }

    /// Asks for the records that connections here want, once at least.
    pub(super) async fn take_records(&mut self, until: Instant) -> Result<(), StoreError> {
        while let Some(token) = self.lease.held(Instant::now()) {
            let mut lookups = self.directory.restores().take_due(ROW_CHANGES_MAX, Instant::now());
            if lookups.is_empty() {
                break;
            }
            // Who has ended, or was replaced, has nothing to ask.
            lookups.retain(|RecordLookup { ask, .. }| self.directory.is_newest(ask.session, ask.number));
            if lookups.is_empty() {
                continue;
            }
            if let Some(clock_offset) = self.clock_offset {
                for RecordLookup { ask, latest, .. } in &mut lookups {
                    (ask.since, *latest) = (clock_offset.earliest(ask.arrival), clock_offset.latest(ask.arrival));
                }
            }
            match self.lease.during(self.store.take_records(&self.instance, &token, &lookups)).await {
                Ok(kept) => {
                    for (lookup, kept) in lookups.into_iter().zip(kept) {
                        if let Some((ask, restored)) = self.directory.restores().settle(lookup, kept, Instant::now()) {
                            let _ = self.session_commands.send(SessionCommand::Restored(ask, restored));
                        }
                    }
                }
                Err(error) => {
                    self.directory.restores().ask_again(lookups);
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
