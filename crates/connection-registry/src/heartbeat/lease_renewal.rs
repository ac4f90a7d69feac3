//! The part of a heartbeat that asks for the lease, renews it, and gives it back.

use std::time::Instant;

use super::{HeartbeatTask, new_incarnation};
use crate::clock_offset::{ClockOffset, Sample};
use crate::error::StoreError;
use crate::lease::{LeaseRequest, Token};
use crate::load::{Heartbeat, Load};
use crate::store::{Acquired, DirectoryReply, LeaseRenewal, Store};

impl<S: Store, L: Fn() -> Load + Send + 'static> HeartbeatTask<S, L> {
    /// What the next call shows the peers.
    fn next_heartbeat(&self) -> Heartbeat {
        Heartbeat { number: self.number, load: (self.load)() }
    }

    pub(super) async fn renew(&mut self, token: &Token) -> Result<(), StoreError> {
        let sent = Instant::now();
        let renewed = self
            .lease
            .during(self.store.renew(&self.instance, token, self.next_heartbeat(), self.acknowledged))
            .await?;
        self.acknowledged = self.number;
        let LeaseRenewal { at, listed: DirectoryReply { rows, commands } } = renewed;
        // They name connections by the dates that these have until everything is written anew.
        self.pass_on(commands);
        if let Some(read) = at {
            let sample = Sample { sent, read, received: Instant::now() };
            if self.clock_offset.get_or_insert_with(|| ClockOffset::new(sample)).narrow(sample) {
                tracing::warn!("clock jump: writing all rows again");
                self.directory.rewrite();
            }
        }
        self.lease.update(|lease, now| lease.renewed(sent, now));
        if self.rows_stored.is_some_and(|stored| stored != rows) {
            tracing::warn!(rows, expected = self.rows_stored, "rows changed by somebody else: writing all rows again");
            self.directory.rewrite();
        }
        Ok(())
    }

    pub(super) async fn acquire(&mut self) -> Result<(), StoreError> {
        let sent = Instant::now();
        match self.lease.during(self.store.acquire(&self.instance, self.next_heartbeat())).await? {
            Acquired::Granted { token, at, before } => {
                // It may be another store than before, with another clock.
                self.clock_offset = at.map(|read| ClockOffset::new(Sample { sent, read, received: Instant::now() }));
                self.lease.update(|lease, now| lease.granted(token, sent, now));
                self.previous_incarnation = before.filter(|before| *before != self.instance.incarnation);
                // Between two leases anybody may have removed our rows: only the directory knows the truth.
                self.directory.rewrite();
                self.presence.rewrite();
            }
            Acquired::Busy { holder } => self.lease.update(|lease, _| lease.busy(holder)),
        }
        Ok(())
    }

    /// A fenced incarnation is over. The next one has no lease and no rows yet.
    pub(super) async fn start_new_incarnation(&mut self) {
        self.release_lease().await;
        let fenced = std::mem::replace(&mut self.instance.incarnation, new_incarnation());
        tracing::warn!(%fenced, incarnation = %self.instance.incarnation, "new incarnation started");
        self.lease.update(|lease, _| lease.start_new_incarnation());
        self.rows_stored = None;
    }

    /// Ends the lease in the store if it is still there, where it would keep the next incarnation out.
    pub(super) async fn release_lease(&mut self) {
        if let LeaseRequest::Renew(token) = self.lease.ask()
            && let Err(error) = self.store.release(&self.instance, &token).await
        {
            tracing::warn!(%error, "lease release failed: it expires by itself");
        }
    }
}
