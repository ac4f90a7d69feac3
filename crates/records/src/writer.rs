//! The task that writes dead letters and receipts to the store.

mod dead_letters;
mod receipts;

use std::convert::Infallible;
use std::sync::Arc;

use self::dead_letters::DeadLetterWriter;
use self::receipts::ReceiptWriter;
use crate::dead_letters::DeadLetterQueue;
use crate::receipts::ReceiptBuffer;
use crate::store::Store;

/// Writes the records of this instance.
#[derive(Debug)]
pub struct RecordWriter<S> {
    dead_letters: DeadLetterWriter,
    receipts: ReceiptWriter,
    store: S,
}

impl<S: Store> RecordWriter<S> {
    /// A writer for this queue and this buffer.
    #[must_use]
    pub fn new(dead_letter_queue: Arc<DeadLetterQueue>, receipt_buffer: Arc<ReceiptBuffer>, store: S) -> Self {
        let (dead_letters, receipts) = (DeadLetterWriter::new(dead_letter_queue), ReceiptWriter::new(receipt_buffer));
        Self { dead_letters, receipts, store }
    }

    /// Writes records until it is dropped. Dropping it loses only the receipts of the write in progress.
    pub async fn run(&self) -> Infallible {
        tokio::select! {
            never = self.dead_letters.run(&self.store) => never,
            never = self.receipts.run(&self.store) => never,
        }
    }

    /// Writes all records that wait, because the instance ends. Stops at the first failure of each kind.
    pub async fn flush(&self) {
        self.dead_letters.flush(&self.store).await;
        self.receipts.flush(&self.store).await;
    }
}
