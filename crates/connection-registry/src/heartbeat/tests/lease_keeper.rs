//! The lease keeper: tokens, numbers of heartbeats, incarnations.

use super::*;
use crate::error::{Refusal, StoreError};
use crate::store::Store;

#[tokio::test]
async fn a_lease_is_granted_once_and_then_renewed() {
    let store = store();
    let mut keeper = new_keeper("gw-1");
    assert!(!keeper.has_token() && keeper.held().is_none());
    let granted = keeper.request(&store, LOAD).await;
    assert!(matches!(granted, Ok(LeaseReply::Granted { previous: None, .. })), "{granted:?}");
    assert!(keeper.has_token() && keeper.held().is_some());
    let renewed = keeper.request(&store, Load { connections: 7, ..LOAD }).await;
    assert!(matches!(renewed, Ok(LeaseReply::Renewed { .. })), "{renewed:?}");
    let peers = store.peers().await.unwrap();
    assert_eq!((peers[0].number, peers[0].load.unwrap().connections), (2, 7));
}

#[tokio::test]
async fn another_incarnation_of_the_same_id_is_busy_until_the_lease_is_released() {
    let store = store();
    let mut first = keeper("gw-1", &store).await;
    let second = Instance { incarnation: Incarnation::new(3, 4), ..instance("gw-1") };
    let (mut second, state) = LeaseKeeper::new(second, None, Duration::ZERO);
    assert!(matches!(second.request(&store, LOAD).await, Ok(LeaseReply::Busy)));
    assert!(!second.has_token() && !state.borrow().is_held(std::time::Instant::now()));
    first.release(&store).await;
    assert!(first.held().is_none());
    assert!(matches!(second.request(&store, LOAD).await, Ok(LeaseReply::Granted { .. })));
}

#[tokio::test]
async fn a_refused_lease_is_asked_for_again() {
    let store = store();
    let mut keeper = keeper("gw-1", &store).await;
    let held = keeper.held().unwrap();
    store.release(held.instance(), held.token()).await.unwrap();
    assert!(matches!(keeper.request(&store, LOAD).await, Err(StoreError::Refused(Refusal::Expired))));
    keeper.refused(Refusal::Expired);
    assert!(!keeper.has_token() && !keeper.is_fenced());
    assert!(matches!(keeper.request(&store, LOAD).await, Ok(LeaseReply::Granted { .. })));
}

#[tokio::test]
async fn a_fenced_incarnation_is_followed_by_another_one() {
    let store = store();
    let mut keeper = keeper("gw-1", &store).await;
    keeper.refused(Refusal::Taken);
    assert!(keeper.is_fenced());
    keeper.start_new_incarnation(&store).await;
    assert!(!keeper.is_fenced() && keeper.held().is_none());
    assert_ne!(keeper.instance().incarnation, instance("gw-1").incarnation);
    assert_eq!(keeper.instance().id, instance("gw-1").id);
}
