//! The part of a sync that writes records of ended sessions, and looks up records for new connections.

use std::sync::Arc;
use std::time::Instant;

use super::command_sender::CommandSender;
use super::lease_keeper::LeaseKeeper;
use crate::clock_offset::ClockOffset;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::restores::RecordLookup;
use crate::store::{ROW_CHANGES_MAX, Store};

/// Most bytes of records in one call.
const RECORDS_BYTES_MAX: usize = 256 * 1024;

/// Carries session records to the store and from it.
#[derive(Debug)]
pub(super) struct SessionRecordSync {
    directory: Arc<Directory>,
    commands: CommandSender,
}

impl SessionRecordSync {
    pub(super) fn new(directory: Arc<Directory>, commands: CommandSender) -> Self {
        Self { directory, commands }
    }

    /// Writes records of ended sessions. Returns whether all are written before `until` and before the lease is lost.
    pub(super) async fn leave<S: Store>(
        &self,
        keeper: &mut LeaseKeeper,
        store: &S,
        clock: Option<ClockOffset>,
        until: Option<Instant>,
    ) -> Result<bool, StoreError> {
        let restores = self.directory.restores();
        while let Some(held) = keeper.held() {
            let mut left = restores.take_left(ROW_CHANGES_MAX, RECORDS_BYTES_MAX);
            if left.is_empty() {
                return Ok(true);
            }
            if let Some(clock) = clock {
                left.iter_mut().for_each(|left| left.since = clock.earliest(left.arrival));
            }
            let written = keeper.during(store.leave_records(held.instance(), held.token(), &left)).await;
            written.inspect_err(|_| restores.put_back(left))?;
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        Ok(false)
    }

    /// Looks up records for connections of this instance until all are answered or `until` has passed. Makes one call
    /// at least.
    pub(super) async fn take<S: Store>(
        &self,
        keeper: &mut LeaseKeeper,
        store: &S,
        clock: Option<ClockOffset>,
        until: Instant,
    ) -> Result<(), StoreError> {
        let restores = self.directory.restores();
        while let Some(held) = keeper.held() {
            let mut lookups = restores.take_due(ROW_CHANGES_MAX, Instant::now());
            if lookups.is_empty() {
                break;
            }
            // A connection that has ended or was replaced needs no record.
            lookups.retain(|RecordLookup { ask, .. }| self.directory.is_newest(ask.session, ask.number));
            if lookups.is_empty() {
                continue;
            }
            if let Some(clock) = clock {
                for RecordLookup { ask, latest, .. } in &mut lookups {
                    (ask.since, *latest) = (clock.earliest(ask.arrival), clock.latest(ask.arrival));
                }
            }
            match keeper.during(store.take_records(held.instance(), held.token(), &lookups)).await {
                Ok(results) => {
                    for (lookup, result) in lookups.into_iter().zip(results) {
                        if let Some((ask, restored)) = restores.settle(lookup, result, Instant::now()) {
                            self.commands.send_restored(ask, restored);
                        }
                    }
                }
                Err(error) => {
                    restores.ask_again(lookups);
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
