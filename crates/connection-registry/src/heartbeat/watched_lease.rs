//! A lease whose state is published: each change at once, also in the middle of a call.

use std::future::Future;
use std::pin::pin;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::lease::{Lease, LeaseRequest, LeaseState, Loss, Token};

/// The lease, and the channel that publishes its state.
#[derive(Debug)]
pub(crate) struct WatchedLease {
    lease: Lease,
    watch: watch::Sender<LeaseState>,
}

impl WatchedLease {
    /// Also returns a receiver of the lease's state.
    pub(crate) fn new(lease: Lease) -> (Self, watch::Receiver<LeaseState>) {
        let (watch, receiver) = watch::channel(lease.state().clone());
        (Self { lease, watch }, receiver)
    }

    /// What the instance may assume about the lease.
    pub(crate) fn state(&self) -> &LeaseState {
        self.lease.state()
    }

    /// The call to make at the next heartbeat.
    pub(crate) fn ask(&self) -> LeaseRequest {
        self.lease.ask()
    }

    /// The token, if the instance may act on the lease at `now`.
    pub(crate) fn held(&self, now: Instant) -> Option<Token> {
        self.lease.held(now)
    }

    /// Changes the lease at the present time, and publishes its state.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Lease, Instant)) {
        change(&mut self.lease, Instant::now());
        let (watch, state) = (&self.watch, self.lease.state());
        watch.send_if_modified(|published| {
            let changed = published != state;
            // Renewals are not logged.
            if changed && !matches!((&*published, state), (LeaseState::Held { .. }, LeaseState::Held { .. })) {
                log(state);
            }
            published.clone_from(state);
            changed
        });
    }

    /// Ends the lease if its deadline has passed.
    pub(crate) fn tick(&mut self) {
        self.update(Lease::tick);
    }

    /// Waits for the deadline. Waits for ever when there is none.
    pub(crate) async fn deadline_passed(&self) {
        match self.lease.deadline() {
            Some(deadline) => sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Awaits a call, and publishes the loss of the lease if its deadline passes first.
    pub(crate) async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        loop {
            tokio::select! {
                biased; // after a freeze both are ready: the loss of the lease is published first
                () = self.deadline_passed() => self.tick(),
                answer = &mut call => return answer,
            }
        }
    }
}

fn log(state: &LeaseState) {
    match state {
        LeaseState::Held { token, .. } => tracing::info!(fence = token.as_str(), "lease acquired"),
        LeaseState::Lost(Loss::Busy(holder)) => {
            tracing::error!(%holder, "lease held by another incarnation: an old one that expires, or a second process");
        }
        LeaseState::Lost(loss @ (Loss::Starting | Loss::Released)) => tracing::info!(reason = ?loss, "no lease"),
        LeaseState::Lost(loss @ (Loss::Unrenewed | Loss::Forgotten)) => {
            // The instance warns if this changes its state: without Redis, a lost lease is no news.
            tracing::info!(reason = ?loss, "lease lost");
        }
        LeaseState::Fenced => tracing::error!("fenced: the lease expired unnoticed, or another incarnation took it"),
    }
}
