//! The session record sync: records reach the store, and lookups reach the connections that asked.

use std::time::Instant;

use super::*;
use crate::error::{Refusal, StoreError};
use crate::heartbeat::session_record_sync::SessionRecordSync;
use crate::restores::{RestoreRequest, RestoreResult};
use crate::session_record::{ClosedSessionRecord, SessionRecord};
use crate::store::Store;

fn record() -> SessionRecord {
    SessionRecord { channels: vec![("system".into(), None)], exact: true }
}

fn leave(directory: &Directory, number: u128) {
    let ConnectionRow { tenant, user, connected_at: since, .. } = row("alice");
    let (session, arrival, record) = (session(number), Instant::now(), record());
    directory.restores().leave(ClosedSessionRecord { session, tenant, user, since, arrival, record });
}

fn ask(directory: &Directory, number: u128) -> crate::registration::Registration {
    let ConnectionRow { tenant, user, connected_at: since, shard } = row("alice");
    let (session, arrival) = (session(number), Instant::now());
    let (registration, _) = directory.wait(session, row("alice"), arrival);
    let number = registration.number();
    let ask = RestoreRequest { session, tenant, user, since, arrival, number, shard, awaited: false };
    directory.restores().ask(ask, arrival);
    registration
}

#[tokio::test]
async fn a_record_is_left_and_taken_by_a_connection_that_is_still_there() {
    let (store, (directory, commands, mut receiver)) = (store(), commands());
    let mut keeper = keeper("gw-1", &store).await;
    let sync = SessionRecordSync::new(Arc::clone(&directory), commands);
    let until = Instant::now() + Duration::from_secs(60);
    leave(&directory, 1);
    assert_eq!(sync.leave(&mut keeper, &store, None, Some(until)).await, Ok(true));
    let _waiting = ask(&directory, 1);
    let ended = ask(&directory, 2);
    directory.disconnect(ended);
    sync.take(&mut keeper, &store, None, until).await.unwrap();
    let Ok(SessionCommand::Restored(ask, restored)) = receiver.try_recv() else { panic!("it is answered") };
    assert_eq!((ask.session, restored), (session(1), RestoreResult::Found(record())));
    assert!(receiver.try_recv().is_err(), "a connection that has ended is not answered");
}

#[tokio::test]
async fn what_the_store_refuses_is_kept() {
    let (store, (directory, commands, mut receiver)) = (store(), commands());
    let mut keeper = keeper("gw-1", &store).await;
    let sync = SessionRecordSync::new(Arc::clone(&directory), commands);
    let until = Instant::now() + Duration::from_secs(60);
    let held = keeper.held().unwrap();
    store.release(held.instance(), held.token()).await.unwrap();
    leave(&directory, 1);
    let _waiting = ask(&directory, 1);
    let refused = Err(StoreError::Refused(Refusal::Expired));
    assert_eq!(sync.leave(&mut keeper, &store, None, None).await, refused);
    assert_eq!(sync.take(&mut keeper, &store, None, until).await, refused.map(drop));
    keeper.refused(Refusal::Expired);
    assert_eq!(sync.leave(&mut keeper, &store, None, None).await, Ok(false), "without a lease nothing is written");
    assert!(matches!(keeper.request(&store, LOAD).await, Ok(LeaseReply::Granted { .. })));
    assert_eq!(sync.leave(&mut keeper, &store, None, None).await, Ok(true));
    sync.take(&mut keeper, &store, None, until).await.unwrap();
    assert!(matches!(receiver.try_recv(), Ok(SessionCommand::Restored(_, RestoreResult::Found(_)))));
}

#[tokio::test]
async fn records_are_written_in_batches_until_the_time_is_over() {
    let (store, (directory, commands, _receiver)) = (store(), commands());
    let mut keeper = keeper("gw-1", &store).await;
    let sync = SessionRecordSync::new(Arc::clone(&directory), commands);
    (0..300).for_each(|number| leave(&directory, number));
    let over = Some(Instant::now());
    assert_eq!(sync.leave(&mut keeper, &store, None, over).await, Ok(false));
    assert_eq!(sync.leave(&mut keeper, &store, None, over).await, Ok(false));
    assert_eq!(sync.leave(&mut keeper, &store, None, None).await, Ok(true));
}
