//! What the recorder does when the store does not do what it should.

use std::sync::Mutex;

use wire::{Families, TenantId};

use super::*;
use crate::letter::{KeptLetter, LetterId};
use crate::letterbox::LetterboxConfig;
use crate::receipt::Standing;

/// Fails as it is told to, and remembers what it was given.
#[derive(Default)]
struct Moody {
    /// What the next writes of receipts come to.
    moods: Mutex<VecDeque<StoreError>>,
    /// How many receipts each successful write had, and how many calls.
    writes: Mutex<Vec<(usize, usize)>>,
}

impl Store for Arc<Moody> {
    async fn keep(&self, _: &Letter) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn letters(&self, _: &TenantId, _: Option<LetterId>, _: usize) -> Result<Vec<KeptLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn letter(&self, _: &TenantId, _: LetterId) -> Result<Option<KeptLetter>, StoreError> {
        Ok(None)
    }

    async fn remove(&self, _: &TenantId, _: &[LetterId]) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn write_receipts(&self, batch: &[(Scope, Users)]) -> Result<u64, StoreError> {
        if let Some(error) = self.moods.lock().unwrap().pop_front() {
            return Err(error);
        }
        assert!(batch.iter().all(|(_, users)| (1..=RECEIPTS_PER_CALL_MAX).contains(&users.len())));
        let many = batch.iter().map(|(_, users)| users.len()).sum();
        self.writes.lock().unwrap().push((many, batch.len()));
        Ok(many as u64)
    }

    async fn standing(&self, _: &Scope, _: &[UserId], _: usize) -> Result<Standing, StoreError> {
        Ok(Standing { top: None, earlier: Vec::new(), users: Vec::new() })
    }
}

fn recorder(moods: impl IntoIterator<Item = StoreError>) -> (Recorder<Arc<Moody>>, Arc<Moody>, Arc<Ledger>) {
    let store = Arc::new(Moody { moods: Mutex::new(moods.into_iter().collect()), ..Moody::default() });
    let ledger: Arc<Ledger> = Arc::default();
    let letterbox = Arc::new(Letterbox::new(LetterboxConfig { message_bytes_max: 0 }));
    (Recorder::new(letterbox, Arc::clone(&ledger), Arc::clone(&store)), store, ledger)
}

fn note(ledger: &Ledger, scope: &str, users: usize) {
    let scope = Families::default().parse_scope(scope).unwrap();
    for user in 0..users {
        let user = UserId::parse(&format!("user-{user}")).unwrap();
        ledger.note(Receipt { scope: scope.clone(), user, position: Position::new(7, 1) });
    }
}

#[tokio::test]
async fn what_could_not_be_written_waits_for_the_next_time() {
    let (recorder, store, ledger) = recorder([StoreError::Unreachable("away".into())]);
    note(&ledger, "acme/collection:1", 1_234);
    assert!(recorder.write_ledger().await.is_err());
    assert_eq!(ledger.counts().waiting.load(Ordering::Relaxed), 1_234);
    assert_eq!(recorder.write_ledger().await, Ok(()));
    assert_eq!(store.writes.lock().unwrap().iter().map(|(many, _)| many).sum::<usize>(), 1_234);
    let counts = ledger.counts();
    let [written, dropped, waiting] =
        [&counts.written, &counts.dropped, &counts.waiting].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((written, dropped, waiting), (1_234, 0, 0));
}

#[tokio::test]
async fn what_the_store_will_never_have_is_counted_and_does_not_hold_up_the_rest() {
    let (recorder, store, ledger) = recorder([StoreError::Malformed("another library".into())]);
    note(&ledger, "acme/collection:1", 600);
    assert_eq!(recorder.write_ledger().await, Ok(()));
    assert_eq!(ledger.counts().dropped.load(Ordering::Relaxed), 500);
    assert_eq!(*store.writes.lock().unwrap(), [(100, 1)]);
}

#[tokio::test]
async fn scopes_share_a_write_and_a_busy_one_has_several() {
    let (recorder, store, ledger) = recorder([]);
    for scope in 0..1_000 {
        note(&ledger, &format!("acme/user:{scope}"), 1);
    }
    assert_eq!(recorder.write_ledger().await, Ok(()));
    assert_eq!(*store.writes.lock().unwrap(), [(500, 500), (500, 500)]);
}
