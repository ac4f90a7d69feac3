//! The directory sync: after each sync the store has the rows of this instance.

use std::time::Instant;

use super::*;
use crate::clock_offset::Sample;
use crate::connection_row::RowChange;
use crate::error::{Refusal, StoreError};
use crate::heartbeat::directory_sync::DirectorySync;
use crate::heartbeat::session_record_sync::SessionRecordSync;
use crate::store::{DirectoryReply, Store};

struct Fixture {
    store: MemoryStore,
    keeper: LeaseKeeper,
    directory: Arc<Directory>,
    sync: DirectorySync,
    _receiver: mpsc::UnboundedReceiver<SessionCommand>,
}

impl Fixture {
    async fn new() -> Self {
        let store = store();
        let keeper = keeper("gw-1", &store).await;
        let (directory, commands, receiver) = commands();
        let records = SessionRecordSync::new(Arc::clone(&directory), commands.clone());
        let mut sync = DirectorySync::new(Arc::clone(&directory), records, commands, TIMINGS.heartbeat / 2);
        sync.granted(None, None);
        Self { store, keeper, directory, sync, _receiver: receiver }
    }

    async fn sync(&mut self) -> Result<(), StoreError> {
        self.sync.sync(&mut self.keeper, &self.store).await
    }

    async fn renew(&mut self) -> usize {
        let Ok(LeaseReply::Renewed { sample, reply }) = self.keeper.request(&self.store, LOAD).await else {
            panic!("it is renewed")
        };
        let rows = reply.rows;
        self.sync.renewed(sample, reply);
        rows
    }

    fn rows(&self, of: Incarnation) -> usize {
        self.store.sessions(&self.keeper.instance().id, of).len()
    }

    fn own(&self) -> Incarnation {
        self.keeper.instance().incarnation
    }
}

#[tokio::test]
async fn rows_that_the_store_has_lost_are_written_again() {
    let mut fixture = Fixture::new().await;
    let _registration = fixture.directory.connect(session(1), row("alice"));
    fixture.sync().await.unwrap();
    assert_eq!(fixture.renew().await, 1);
    let held = fixture.keeper.held().unwrap();
    fixture.store.delete_rows(held.instance(), held.token(), fixture.own()).await.unwrap();
    fixture.sync().await.unwrap();
    assert_eq!(fixture.rows(fixture.own()), 0, "a renewal shows that they are missing");
    assert_eq!(fixture.renew().await, 0);
    fixture.sync().await.unwrap();
    assert_eq!(fixture.rows(fixture.own()), 1);
}

#[tokio::test]
async fn rows_of_a_previous_incarnation_are_deleted() {
    let mut fixture = Fixture::new().await;
    let held = fixture.keeper.held().unwrap();
    let previous = Instance { incarnation: Incarnation::new(0, 1), ..held.instance().clone() };
    let put = RowChange::Put(session(9), row("bob"), Timestamp(1_000));
    fixture.store.write_rows(&previous, held.token(), &[put]).await.unwrap();
    assert_eq!(fixture.rows(previous.incarnation), 1);
    fixture.sync.granted(None, Some(previous.incarnation));
    let _registration = fixture.directory.connect(session(1), row("alice"));
    fixture.sync().await.unwrap();
    assert_eq!((fixture.rows(previous.incarnation), fixture.rows(fixture.own())), (0, 1));
}

#[tokio::test]
async fn a_batch_that_is_refused_is_written_under_the_next_lease() {
    let mut fixture = Fixture::new().await;
    fixture.sync().await.unwrap();
    let held = fixture.keeper.held().unwrap();
    fixture.store.release(held.instance(), held.token()).await.unwrap();
    let _registration = fixture.directory.connect(session(1), row("alice"));
    assert_eq!(fixture.sync().await, Err(StoreError::Refused(Refusal::Expired)));
    fixture.keeper.refused(Refusal::Expired);
    fixture.sync().await.expect("without a lease nothing is written");
    assert!(matches!(fixture.keeper.request(&fixture.store, LOAD).await, Ok(LeaseReply::Granted { .. })));
    fixture.sync().await.unwrap();
    assert_eq!(fixture.rows(fixture.own()), 1);
}

#[tokio::test]
async fn rows_are_written_again_after_a_clock_jump() {
    let mut fixture = Fixture::new().await;
    let now = Instant::now();
    let sample = |ms| Some(Sample { sent: now, read: Timestamp(ms), received: now });
    fixture.sync.granted(sample(1_000_000), None);
    let _registration = fixture.directory.connect(session(1), row("alice"));
    fixture.sync().await.unwrap();
    let dated = |fixture: &Fixture| fixture.directory.registered(session(1)).unwrap().1.map(|at| at.0 / 1_000);
    assert_eq!(dated(&fixture), Some(1_000));
    fixture.sync.renewed(sample(5_000_000), DirectoryReply { rows: 1, commands: Vec::new() });
    fixture.sync().await.unwrap();
    assert_eq!(dated(&fixture), Some(5_000));
}
