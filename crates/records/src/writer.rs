//! The task that carries dead letters and receipts to the store. One dead letter at a time: what is rare needs no more, and a
//! publisher of garbage cannot make the fleet load Redis with it. Receipts once a second, in batches.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use wire::{Position, Scope, UserId};

use crate::dead_letter::DeadLetter;
use crate::dead_letter_queue::DeadLetterQueue;
use crate::error::StoreError;
use crate::receipt::Receipt;
use crate::receipt_buffer::ReceiptBuffer;
use crate::store::{RECEIPTS_PER_CALL_MAX, RECEIPTS_PER_WRITE_MAX, Store};

/// The first pause when the store is away; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// At most one write for each user and scope in this time.
const RECEIPTS_INTERVAL: Duration = Duration::from_secs(1);

/// How far users have got in one scope.
type Users = Vec<(UserId, Position)>;

/// Writes down what the instance reports.
#[derive(Debug)]
pub struct RecordWriter<S> {
    dead_letter_queue: Arc<DeadLetterQueue>,
    receipt_buffer: Arc<ReceiptBuffer>,
    store: S,
}

impl<S: Store> RecordWriter<S> {
    /// A writer of this queue and this buffer.
    #[must_use]
    pub fn new(dead_letter_queue: Arc<DeadLetterQueue>, receipt_buffer: Arc<ReceiptBuffer>, store: S) -> Self {
        Self { dead_letter_queue, receipt_buffer, store }
    }

    /// Writes what comes, until dropped. Dropping it loses nothing but the receipts of the write in progress.
    pub async fn run(&self) -> Infallible {
        tokio::select! {
            never = self.write_dead_letters() => never,
            never = self.write_receipts() => never,
        }
    }

    /// Writes what is still there, as far as the store takes it at once: the instance ends.
    pub async fn flush(&self) {
        while let Some(dead_letter) = self.dead_letter_queue.oldest() {
            if self.write(&dead_letter).await.is_err() {
                break;
            }
        }
        // What fails is lost with the instance; the clients' next receipts make good for it.
        let _ = self.write_buffered_receipts().await;
    }

    async fn write_dead_letters(&self) -> Infallible {
        let mut pause = PAUSE_MIN;
        loop {
            let dead_letter = self.dead_letter_queue.next().await;
            let Err(error) = self.write(&dead_letter).await else {
                pause = PAUSE_MIN;
                continue;
            };
            if pause == PAUSE_MIN {
                tracing::warn!(%error, "dead letters delayed");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Once in an interval, and once for each user and scope, however often they acknowledged.
    async fn write_receipts(&self) -> Infallible {
        let mut waits = false;
        loop {
            sleep(RECEIPTS_INTERVAL).await;
            let written = self.write_buffered_receipts().await;
            if let Err(error) = &written
                && !waits
            {
                tracing::warn!(%error, "receipts delayed");
            }
            waits = written.is_err();
        }
    }

    /// Writes all that waits, some hundreds at a time. An error is one that may pass: the rest is put back.
    async fn write_buffered_receipts(&self) -> Result<(), StoreError> {
        let (mut parts, counts) = (parts(self.receipt_buffer.take()), self.receipt_buffer.counts());
        while !parts.is_empty() {
            let (batch, many) = next_batch(&mut parts);
            match self.store.write_receipts(&batch).await {
                Ok(_) => _ = counts.written.fetch_add(many, Ordering::Relaxed),
                Err(error) if error.may_retry() => {
                    put_back(&self.receipt_buffer, batch.into_iter().chain(parts));
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(%error, many, "receipts lost");
                    counts.dropped.fetch_add(many, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Deals with one dead letter, the oldest. An error is one that may pass: the dead letter stays.
    async fn write(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let counts = self.dead_letter_queue.counts();
        match self.store.keep(dead_letter).await {
            Ok(true) => counts.kept.fetch_add(1, Ordering::Relaxed),
            Ok(false) => counts.known.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.may_retry() => return Err(error),
            Err(error) => {
                tracing::error!(%error, channel = dead_letter.channel(), reason = %dead_letter.reason, "dead letter lost");
                counts.dropped.fetch_add(1, Ordering::Relaxed)
            }
        };
        self.dead_letter_queue.take();
        Ok(())
    }
}

/// Each scope in parts that fit into one call.
fn parts(waiting: HashMap<Scope, HashMap<UserId, Position>>) -> VecDeque<(Scope, Users)> {
    let mut parts = VecDeque::with_capacity(waiting.len());
    for (scope, users) in waiting {
        let users: Users = users.into_iter().collect();
        parts.extend(users.chunks(RECEIPTS_PER_CALL_MAX).map(|part| (scope.clone(), part.to_vec())));
    }
    parts
}

/// As many parts as fit into one write, and how many receipts that is.
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

fn put_back(receipt_buffer: &ReceiptBuffer, batch: impl Iterator<Item = (Scope, Users)>) {
    for (scope, users) in batch {
        for (user, position) in users {
            receipt_buffer.keep(Receipt { scope: scope.clone(), user, position });
        }
    }
}

#[cfg(test)]
mod tests;
