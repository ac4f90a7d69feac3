//! The task that writes dead letters and receipts to the store. It writes one dead letter at a time: they are rare, and
//! a publisher of invalid messages must not cause load on Redis. It writes receipts once per second, in batches.

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

/// The first pause when the store is away. Each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause when the store is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// There is at most one write for each user and scope in this time.
const RECEIPTS_INTERVAL: Duration = Duration::from_secs(1);

/// The last acknowledged positions of users in one scope.
type Users = Vec<(UserId, Position)>;

/// Writes the records of one instance.
#[derive(Debug)]
pub struct RecordWriter<S> {
    dead_letter_queue: Arc<DeadLetterQueue>,
    receipt_buffer: Arc<ReceiptBuffer>,
    store: S,
}

impl<S: Store> RecordWriter<S> {
    /// A writer for this queue and this buffer.
    #[must_use]
    pub fn new(dead_letter_queue: Arc<DeadLetterQueue>, receipt_buffer: Arc<ReceiptBuffer>, store: S) -> Self {
        Self { dead_letter_queue, receipt_buffer, store }
    }

    /// Writes records until it is dropped. If it is dropped, only receipts of the write in progress are lost.
    pub async fn run(&self) -> Infallible {
        tokio::select! {
            never = self.write_dead_letters() => never,
            never = self.write_receipts() => never,
        }
    }

    /// Writes the remaining records once, when the instance ends. It stops where the store fails.
    pub async fn flush(&self) {
        while let Some(dead_letter) = self.dead_letter_queue.oldest() {
            if self.write(&dead_letter).await.is_err() {
                break;
            }
        }
        // Receipts that fail are lost with the instance. The clients' next receipts repair the loss.
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

    /// Writes receipts once per interval: once for each user and scope, however often they acknowledged.
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

    /// Writes all waiting receipts, some hundreds at a time. After an error that may pass, the rest is put back.
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
                    tracing::error!(%error, count = many, "receipts lost");
                    counts.dropped.fetch_add(many, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Writes the oldest dead letter and removes it. After an error that may pass, it stays.
    async fn write(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let counts = self.dead_letter_queue.counts();
        match self.store.keep(dead_letter).await {
            Ok(true) => counts.kept.fetch_add(1, Ordering::Relaxed),
            Ok(false) => counts.known.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.may_retry() => return Err(error),
            Err(error) => {
                tracing::error!(
                    %error,
                    tenant = dead_letter.scope.tenant(),
                    channel = dead_letter.channel(),
                    reason = %dead_letter.reason,
                    "dead letter lost"
                );
                counts.dropped.fetch_add(1, Ordering::Relaxed)
            }
        };
        self.dead_letter_queue.take();
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

/// Takes as many parts as fit into one write, and returns the number of receipts in them.
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
