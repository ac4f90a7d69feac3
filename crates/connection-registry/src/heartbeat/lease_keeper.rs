//! The part of a heartbeat that asks for the lease, renews it, and releases it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::entropy::new_incarnation;
use super::watched_lease::WatchedLease;
use crate::clock_offset::Sample;
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::lease::{Lease, LeaseRequest, LeaseState, Token};
use crate::load::{Heartbeat, Load};
use crate::store::{Acquired, DirectoryReply, LeaseRenewal, Store};

/// This instance and its lease.
#[derive(Debug)]
pub(super) struct LeaseKeeper {
    /// This instance, in its current incarnation.
    instance: Arc<Instance>,
    lease: WatchedLease,
    /// Number of the newest heartbeat.
    number: u64,
    /// Number of the newest renewal whose reply was read.
    acknowledged: u64,
}

/// The instance and the token that a call to the store carries.
#[derive(Debug)]
pub(super) struct HeldLease {
    instance: Arc<Instance>,
    token: Token,
}

/// The store's reply to a request for the lease.
#[derive(Debug)]
pub(super) enum LeaseReply {
    /// A new lease. Between two leases other instances may have removed rows and members of this one.
    Granted {
        /// A reading of the store's clock, if the store has one.
        sample: Option<Sample>,
        /// An earlier incarnation that may have left rows behind.
        previous: Option<Incarnation>,
    },
    /// More time on the lease.
    Renewed {
        /// A reading of the store's clock, if the store has one.
        sample: Option<Sample>,
        /// Rows of this instance, and commands for it.
        reply: DirectoryReply,
    },
    /// Another incarnation holds the lease.
    Busy,
}

impl LeaseKeeper {
    /// Keeps the lease of `instance`. Also returns the receiver of the lease's state. `length` and `drift` are as for
    /// [`Lease::new`].
    pub(super) fn new(
        instance: Instance,
        length: Option<Duration>,
        drift: Duration,
    ) -> (Self, watch::Receiver<LeaseState>) {
        let (lease, receiver) = WatchedLease::new(Lease::new(length, drift));
        (Self { instance: Arc::new(instance), lease, number: 0, acknowledged: 0 }, receiver)
    }

    /// This instance, in its current incarnation.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What a call to the store carries, if the instance holds its lease now.
    pub(super) fn held(&self) -> Option<HeldLease> {
        let token = self.lease.held(Instant::now())?;
        Some(HeldLease { instance: Arc::clone(&self.instance), token })
    }

    /// Whether the next request is a renewal.
    pub(super) fn has_token(&self) -> bool {
        matches!(self.lease.ask(), LeaseRequest::Renew(_))
    }

    /// Whether this incarnation has ended.
    pub(super) fn is_fenced(&self) -> bool {
        *self.lease.state() == LeaseState::Fenced
    }

    /// Awaits a call, and publishes the loss of the lease if its deadline passes meanwhile.
    pub(super) async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.lease.during(call).await
    }

    /// Waits for the lease's deadline.
    pub(super) async fn deadline_passed(&self) {
        self.lease.deadline_passed().await;
    }

    /// Ends the lease if its deadline has passed.
    pub(super) fn tick(&mut self) {
        self.lease.tick();
    }

    /// The store has refused the token: the lease has ended.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        tracing::debug!(%refusal, "lease refused");
        self.lease.update(|lease, now| lease.refused(refusal, now));
    }

    /// Asks for the lease, or renews it. Shows `load` to the peers.
    pub(super) async fn request<S: Store>(&mut self, store: &S, load: Load) -> Result<LeaseReply, StoreError> {
        self.number += 1;
        let heartbeat = Heartbeat { number: self.number, load };
        match self.lease.ask() {
            LeaseRequest::Renew(token) => self.renew(store, &token, heartbeat).await,
            LeaseRequest::Acquire => self.acquire(store, heartbeat).await,
        }
    }

    async fn renew<S: Store>(
        &mut self,
        store: &S,
        token: &Token,
        heartbeat: Heartbeat,
    ) -> Result<LeaseReply, StoreError> {
        let sent = Instant::now();
        let call = store.renew(&self.instance, token, heartbeat, self.acknowledged);
        let LeaseRenewal { at, listed } = self.lease.during(call).await?;
        self.acknowledged = self.number;
        let sample = at.map(|read| Sample { sent, read, received: Instant::now() });
        self.lease.update(|lease, now| lease.renewed(sent, now));
        Ok(LeaseReply::Renewed { sample, reply: listed })
    }

    async fn acquire<S: Store>(&mut self, store: &S, heartbeat: Heartbeat) -> Result<LeaseReply, StoreError> {
        let sent = Instant::now();
        match self.lease.during(store.acquire(&self.instance, heartbeat)).await? {
            Acquired::Granted { token, at, before } => {
                let sample = at.map(|read| Sample { sent, read, received: Instant::now() });
                self.lease.update(|lease, now| lease.granted(token, sent, now));
                let previous = before.filter(|before| *before != self.instance.incarnation);
                Ok(LeaseReply::Granted { sample, previous })
            }
            Acquired::Busy { holder } => {
                self.lease.update(|lease, _| lease.busy(holder));
                Ok(LeaseReply::Busy)
            }
        }
    }

    /// Ends a fenced incarnation. The next one has no lease and no rows yet.
    pub(super) async fn start_new_incarnation<S: Store>(&mut self, store: &S) {
        self.release_in_store(store).await;
        let (fenced, incarnation) = (self.instance.incarnation, new_incarnation());
        self.instance = Arc::new(Instance { incarnation, ..Instance::clone(&self.instance) });
        tracing::warn!(%fenced, %incarnation, "new incarnation started");
        self.lease.update(|lease, _| lease.start_new_incarnation());
    }

    /// Releases the lease, because the instance stops.
    pub(super) async fn release<S: Store>(&mut self, store: &S) {
        self.release_in_store(store).await;
        self.lease.update(|lease, _| lease.released());
    }

    /// Ends the lease in the store, if the store still has it. There it would delay the next incarnation.
    async fn release_in_store<S: Store>(&mut self, store: &S) {
        if let LeaseRequest::Renew(token) = self.lease.ask()
            && let Err(error) = store.release(&self.instance, &token).await
        {
            tracing::warn!(%error, "lease release failed: it expires by itself");
        }
    }
}

impl HeldLease {
    /// The instance that holds the lease.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Token of the lease.
    pub(super) fn token(&self) -> &Token {
        &self.token
    }
}
