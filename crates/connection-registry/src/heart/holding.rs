//! The part of a beat that asks for the lease, renews it, and gives it back.

use std::time::Instant;

use super::{Heart, begin_life};
use crate::dating::{Dating, Sample};
use crate::error::StoreError;
use crate::lease::{Ask, Token};
use crate::limits::{Listed, Renewed};
use crate::load::{Load, Pulse};
use crate::store::{Acquired, Store};

impl<S: Store, L: Fn() -> Load + Send + 'static> Heart<S, L> {
    /// What the next call shows the peers.
    fn pulse(&self) -> Pulse {
        Pulse { number: self.number, load: (self.load)() }
    }

    pub(super) async fn renew(&mut self, token: &Token) -> Result<(), StoreError> {
        let sent = Instant::now();
        let renewed = self.lease.during(self.store.renew(&self.instance, token, self.pulse(), self.heard)).await?;
        self.heard = self.number;
        let Renewed { at, listed: Listed { rows, orders } } = renewed;
        // They name connections by the dates that these have until everything is written anew.
        self.pass_on(orders);
        if let Some(read) = at {
            let sample = Sample { sent, read, received: Instant::now() };
            if self.dating.get_or_insert_with(|| Dating::new(sample)).narrow(sample) {
                tracing::warn!("Redis' clock was set, or this machine slept: rows are dated anew");
                self.directory.rewrite();
            }
        }
        self.lease.update(|lease, now| lease.renewed(sent, now));
        if self.rows_stored.is_some_and(|stored| stored != rows) {
            tracing::warn!(rows, expected = self.rows_stored, "rows of this instance changed behind its back");
            self.directory.rewrite();
        }
        Ok(())
    }

    pub(super) async fn acquire(&mut self) -> Result<(), StoreError> {
        let sent = Instant::now();
        match self.lease.during(self.store.acquire(&self.instance, self.pulse())).await? {
            Acquired::Granted { token, at, before } => {
                // It may be another store than before, with another clock.
                self.dating = at.map(|read| Dating::new(Sample { sent, read, received: Instant::now() }));
                self.lease.update(|lease, now| lease.granted(token, sent, now));
                self.life_before = before.filter(|before| *before != self.instance.incarnation);
                // Between two leases anybody may have removed our rows: only the directory knows the truth.
                self.directory.rewrite();
                self.presence.rewrite();
            }
            Acquired::Busy { holder } => self.lease.update(|lease, _| lease.busy(holder)),
        }
        Ok(())
    }

    /// A fenced incarnation is over. The next one has no lease and no rows yet.
    pub(super) async fn begin_again(&mut self) {
        self.give_back().await;
        let fenced = std::mem::replace(&mut self.instance.incarnation, begin_life());
        tracing::warn!(%fenced, incarnation = %self.instance.incarnation, "begins again as a new incarnation");
        self.lease.update(|lease, _| lease.begin_again());
        self.rows_stored = None;
    }

    /// Ends the lease in the store if it is still there, where it would keep the next incarnation out.
    pub(super) async fn give_back(&mut self) {
        if let Ask::Renew(token) = self.lease.ask()
            && let Err(error) = self.store.release(&self.instance, &token).await
        {
            tracing::warn!(%error, "could not give the lease back; it runs out by itself");
        }
    }
}
