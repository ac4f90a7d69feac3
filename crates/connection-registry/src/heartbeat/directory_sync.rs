//! The part of a heartbeat, and of the time between two, that writes the directory to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command_sender::CommandSender;
use super::lease_keeper::{HeldLease, LeaseKeeper};
use super::session_record_sync::SessionRecordSync;
use super::store_clock::StoreClock;
use crate::clock_offset::Sample;
use crate::connection_limits::ConnectionLimits;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::instance::Incarnation;
use crate::store::{DirectoryReply, ROW_CHANGES_MAX, Store};

/// Writes rows and session records. A record is written before the row of its session is removed, so that a session
/// always has a row or a record.
#[derive(Debug)]
pub(super) struct DirectorySync {
    directory: Arc<Directory>,
    records: SessionRecordSync,
    commands: CommandSender,
    clock: StoreClock,
    /// Number of rows that the store has of this incarnation, if its newest reply said so.
    rows_stored: Option<usize>,
    /// An earlier incarnation whose rows may be in the store.
    previous_incarnation: Option<Incarnation>,
    /// Longest time of one sync, because the lease must be renewed meanwhile. Later syncs write the remaining changes.
    sync_max: Duration,
}

/// What became of one step of a sync.
enum Step {
    /// There may be more to write.
    Written,
    /// The store has all rows.
    Complete,
    /// The time was over, or the lease was lost, before all records were written.
    Interrupted,
}

impl DirectorySync {
    pub(super) fn new(
        directory: Arc<Directory>,
        records: SessionRecordSync,
        commands: CommandSender,
        sync_max: Duration,
    ) -> Self {
        let (clock, rows_stored, previous_incarnation) = (StoreClock::default(), None, None);
        Self { directory, records, commands, clock, rows_stored, previous_incarnation, sync_max }
    }

    /// The store has granted a lease. Between two leases other instances may have removed rows, so all are written
    /// again.
    pub(super) fn granted(&mut self, sample: Option<Sample>, previous: Option<Incarnation>) {
        self.clock.restart(sample);
        self.previous_incarnation = previous;
        self.directory.rewrite();
    }

    /// The store has renewed the lease.
    pub(super) fn renewed(&mut self, sample: Option<Sample>, DirectoryReply { rows, commands }: DirectoryReply) {
        // Commands name connections by their times of arrival, which a rewrite changes: so they are sent before it.
        self.commands.send(commands);
        if self.clock.has_jumped(sample) {
            tracing::warn!("clock jump: writing all rows again");
            self.directory.rewrite();
        }
        if self.rows_stored.is_some_and(|stored| stored != rows) {
            tracing::warn!(rows, expected = self.rows_stored, "rows changed in the store: writing all rows again");
            self.directory.rewrite();
        }
    }

    /// A new incarnation has no rows in the store.
    pub(super) fn start_new_incarnation(&mut self) {
        self.rows_stored = None;
    }

    /// Waits until there is a change that does not wait for a heartbeat.
    pub(super) async fn wait_for_changes(&self) {
        tokio::select! {
            () = self.directory.restores().wait_for_new() => {}
            () = self.directory.wait_for_new() => {}
        }
    }

    /// When the next lookup of a session's record is due.
    pub(super) fn next_lookup(&self) -> Option<Instant> {
        self.directory.restores().next_due()
    }

    /// Closes connections above the limits, counted on this instance alone, while the store cannot count them.
    pub(super) fn enforce_limits(&self, limits: ConnectionLimits) {
        self.commands.close_excess(limits);
    }

    /// Writes records and changes of rows, then looks up records, in bounded batches and for at most `sync_max`.
    pub(super) async fn sync<S: Store>(&mut self, keeper: &mut LeaseKeeper, store: &S) -> Result<(), StoreError> {
        let until = Instant::now() + self.sync_max;
        if !self.records.leave(keeper, store, self.clock.offset(), Some(until)).await? {
            return Ok(());
        }
        while let Some(held) = keeper.held() {
            match self.write(keeper, store, &held, until).await? {
                Step::Written => {}
                Step::Complete => break,
                Step::Interrupted => return Ok(()),
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.records.take(keeper, store, self.clock.offset(), until).await
    }

    /// Writes the records of the last connections, however long it takes, because the instance stops.
    pub(super) async fn leave_last_records<S: Store>(
        &mut self,
        keeper: &mut LeaseKeeper,
        store: &S,
    ) -> Result<(), StoreError> {
        self.records.leave(keeper, store, self.clock.offset(), None).await.map(drop)
    }

    /// Makes one call, or finds that all rows are written.
    async fn write<S: Store>(
        &mut self,
        keeper: &mut LeaseKeeper,
        store: &S,
        held: &HeldLease,
        until: Instant,
    ) -> Result<Step, StoreError> {
        if let Some(previous) = self.previous_incarnation {
            keeper.during(store.delete_rows(held.instance(), held.token(), previous)).await?;
            self.previous_incarnation = None;
            return Ok(Step::Written);
        }
        if self.directory.take_rewrite() {
            self.rows_stored = None;
            let own = held.instance().incarnation;
            let deleted = keeper.during(store.delete_rows(held.instance(), held.token(), own)).await;
            deleted.inspect_err(|_| self.directory.rewrite())?;
            self.rows_stored = Some(0);
            return Ok(Step::Written);
        }
        self.write_rows(keeper, store, held, until).await
    }

    async fn write_rows<S: Store>(
        &mut self,
        keeper: &mut LeaseKeeper,
        store: &S,
        held: &HeldLease,
        until: Instant,
    ) -> Result<Step, StoreError> {
        let batch = self.directory.take(ROW_CHANGES_MAX, self.clock.offset());
        if batch.is_empty() {
            return Ok(Step::Complete);
        }
        self.rows_stored = None;
        // Sessions whose rows the batch removes have left their records by now.
        match self.records.leave(keeper, store, self.clock.offset(), Some(until)).await {
            Ok(true) => {}
            unfinished => {
                self.directory.put_back(batch);
                return unfinished.map(|_| Step::Interrupted);
            }
        }
        match keeper.during(store.write_rows(held.instance(), held.token(), &batch)).await {
            Ok(DirectoryReply { rows, commands }) => {
                self.rows_stored = Some(rows);
                self.commands.send(commands);
                Ok(Step::Written)
            }
            Err(error) => {
                self.directory.put_back(batch);
                Err(error)
            }
        }
    }
}
