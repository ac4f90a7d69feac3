//! Writes receipts once a second, in batches.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use wire::{Position, Scope, UserId};

use crate::error::StoreError;
use crate::receipts::{Receipt, ReceiptBuffer};
use crate::store::{RECEIPTS_PER_CALL_MAX, RECEIPTS_PER_WRITE_MAX, Store};

/// Time between two writes. A user and scope is written at most once in this time, however often it is acknowledged.
const RECEIPTS_INTERVAL: Duration = Duration::from_secs(1);

/// How far users have acknowledged one scope.
type Users = Vec<(UserId, Position)>;

/// Writes the receipts of a buffer.
#[derive(Debug)]
pub(super) struct ReceiptWriter {
    buffer: Arc<ReceiptBuffer>,
}

impl ReceiptWriter {
    pub(super) fn new(buffer: Arc<ReceiptBuffer>) -> Self {
        Self { buffer }
    }

    /// Writes all receipts that wait, once in an interval.
    pub(super) async fn run<S: Store>(&self, store: &S) -> Infallible {
        let mut waits = false;
        loop {
            sleep(RECEIPTS_INTERVAL).await;
            let written = self.write(store).await;
            if let Err(error) = &written
                && !waits
            {
                tracing::warn!(%error, "receipts delayed");
            }
            waits = written.is_err();
        }
    }

    /// Writes all receipts that wait, up to the first failure. Receipts that are lost with the instance are replaced by the
    /// clients' next ones.
    pub(super) async fn flush<S: Store>(&self, store: &S) {
        let _ = self.write(store).await;
    }

    /// Writes all receipts that wait, some hundreds at a time. Returns an error if a later attempt may succeed: the remaining
    /// receipts are then put back.
    async fn write<S: Store>(&self, store: &S) -> Result<(), StoreError> {
        let (mut parts, counts) = (parts(self.buffer.take()), self.buffer.counts());
        while !parts.is_empty() {
            let (batch, many) = next_batch(&mut parts);
            match store.write_receipts(&batch).await {
                Ok(_) => _ = counts.written.fetch_add(many, Ordering::Relaxed),
                Err(error) if error.may_retry() => {
                    put_back(&self.buffer, batch.into_iter().chain(parts));
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(%error, count = many, "receipts lost");
                    counts.dropped.fetch_add(many, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

/// Splits each scope into parts that fit into one call.
fn parts(waiting: HashMap<Scope, HashMap<UserId, Position>>) -> VecDeque<(Scope, Users)> {
    let mut parts = VecDeque::with_capacity(waiting.len());
    for (scope, users) in waiting {
        let users: Users = users.into_iter().collect();
        parts.extend(users.chunks(RECEIPTS_PER_CALL_MAX).map(|part| (scope.clone(), part.to_vec())));
    }
    parts
}

/// Takes as many parts as fit into one write. Also returns the number of receipts in them.
fn next_batch(parts: &mut VecDeque<(Scope, Users)>) -> (Vec<(Scope, Users)>, u64) {
    let (mut batch, mut many) = (Vec::new(), 0);
    while let Some((_, users)) = parts.front()
        && (batch.is_empty() || many + users.len() <= RECEIPTS_PER_WRITE_MAX)
    {
        many += users.len();
        batch.extend(parts.pop_front());
    }
    (batch, many as u64)
}

fn put_back(buffer: &ReceiptBuffer, batch: impl Iterator<Item = (Scope, Users)>) {
    for (scope, users) in batch {
        for (user, position) in users {
            buffer.keep(Receipt { scope: scope.clone(), user, position });
        }
    }
}

#[cfg(test)]
mod tests;
