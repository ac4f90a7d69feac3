//! How the writer handles a store that fails.

use std::sync::Mutex;

use wire::{Families, TenantId};

use super::*;
use crate::dead_letters::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::receipts::ScopeReceipts;

/// A store that fails as configured, and records what was written.
#[derive(Default)]
struct FailingStore {
    /// The results of the next writes of receipts.
    failures: Mutex<VecDeque<StoreError>>,
    /// For each successful write: the number of receipts and the number of calls.
    writes: Mutex<Vec<(usize, usize)>>,
}

impl Store for Arc<FailingStore> {
    async fn keep(&self, _: &DeadLetter) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn dead_letters(
        &self,
        _: &TenantId,
        _: Option<DeadLetterId>,
        _: usize,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn dead_letter(&self, _: &TenantId, _: DeadLetterId) -> Result<Option<StoredDeadLetter>, StoreError> {
        Ok(None)
    }

    async fn remove(&self, _: &TenantId, _: &[DeadLetterId]) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn write_receipts(&self, batch: &[(Scope, Users)]) -> Result<u64, StoreError> {
        if let Some(error) = self.failures.lock().unwrap().pop_front() {
            return Err(error);
        }
        assert!(batch.iter().all(|(_, users)| (1..=RECEIPTS_PER_CALL_MAX).contains(&users.len())));
        let many = batch.iter().map(|(_, users)| users.len()).sum();
        self.writes.lock().unwrap().push((many, batch.len()));
        Ok(many as u64)
    }

    async fn scope_receipts(&self, _: &Scope, _: &[UserId], _: usize) -> Result<ScopeReceipts, StoreError> {
        Ok(ScopeReceipts { top: None, earlier: Vec::new(), users: Vec::new() })
    }
}

fn writer(failures: impl IntoIterator<Item = StoreError>) -> (ReceiptWriter, Arc<FailingStore>, Arc<ReceiptBuffer>) {
    let store =
        Arc::new(FailingStore { failures: Mutex::new(failures.into_iter().collect()), ..FailingStore::default() });
    let receipt_buffer: Arc<ReceiptBuffer> = Arc::default();
    (ReceiptWriter::new(Arc::clone(&receipt_buffer)), store, receipt_buffer)
}

fn note(receipt_buffer: &ReceiptBuffer, scope: &str, users: usize) {
    let scope = Families::default().parse_scope(scope).unwrap();
    for user in 0..users {
        let user = UserId::parse(&format!("user-{user}")).unwrap();
        receipt_buffer.note(Receipt { scope: scope.clone(), user, position: Position::new(7, 1) });
    }
}

#[tokio::test]
async fn receipts_that_could_not_be_written_wait_for_the_next_write() {
    let (writer, store, receipt_buffer) = writer([StoreError::Unreachable("away".into())]);
    note(&receipt_buffer, "acme/collection:1", 1_234);
    assert!(writer.write(&store).await.is_err());
    assert_eq!(receipt_buffer.counts().waiting.load(Ordering::Relaxed), 1_234);
    assert_eq!(writer.write(&store).await, Ok(()));
    assert_eq!(store.writes.lock().unwrap().iter().map(|(many, _)| many).sum::<usize>(), 1_234);
    let counts = receipt_buffer.counts();
    let [written, dropped, waiting] =
        [&counts.written, &counts.dropped, &counts.waiting].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((written, dropped, waiting), (1_234, 0, 0));
}

#[tokio::test]
async fn permanently_rejected_receipts_are_counted_and_do_not_block_the_rest() {
    let (writer, store, receipt_buffer) = writer([StoreError::Malformed("another library".into())]);
    note(&receipt_buffer, "acme/collection:1", 600);
    assert_eq!(writer.write(&store).await, Ok(()));
    assert_eq!(receipt_buffer.counts().dropped.load(Ordering::Relaxed), 500);
    assert_eq!(*store.writes.lock().unwrap(), [(100, 1)]);
}

#[tokio::test]
async fn scopes_share_a_write_and_a_busy_one_has_several() {
    let (writer, store, receipt_buffer) = writer([]);
    for scope in 0..1_000 {
        note(&receipt_buffer, &format!("acme/user:{scope}"), 1);
    }
    assert_eq!(writer.write(&store).await, Ok(()));
    assert_eq!(*store.writes.lock().unwrap(), [(500, 500), (500, 500)]);
}
