//! The presence sync: the store lists the members of this instance.

use wire::{Families, Scope};

use super::*;
use crate::error::{Refusal, StoreError};
use crate::heartbeat::presence_sync::PresenceSync;
use crate::presence::Presence;
use crate::store::{PresenceReader, Store};

fn scope() -> Scope {
    Families::default().parse_scope("acme/collection:1").unwrap()
}

fn enter(presence: &Presence, user: &str) {
    presence.enter(&scope(), &UserId::parse(user).unwrap(), &None, Timestamp(1));
}

fn exit(presence: &Presence, user: &str) {
    presence.exit(&scope(), &UserId::parse(user).unwrap());
}

async fn count(store: &MemoryStore) -> usize {
    store.list_members(&[scope()], 0).await.unwrap().scopes[0].count
}

#[tokio::test]
async fn a_member_that_has_left_is_removed_after_its_grace() {
    let (store, presence) = (store(), Arc::<Presence>::default());
    let mut keeper = keeper("gw-1", &store).await;
    let mut sync = PresenceSync::new(Arc::clone(&presence), TIMINGS);
    enter(&presence, "alice");
    sync.sync(&mut keeper, &store).await.unwrap();
    assert_eq!(count(&store).await, 1);
    exit(&presence, "alice");
    sync.sync(&mut keeper, &store).await.unwrap();
    sync.due().await;
    sync.sync(&mut keeper, &store).await.unwrap();
    assert_eq!(count(&store).await, 0);
    let waits = tokio::time::timeout(Duration::from_millis(5), sync.due()).await;
    assert!(waits.is_err(), "no member is due any more");
}

#[tokio::test]
async fn a_change_that_is_refused_is_written_under_the_next_lease() {
    let (store, presence) = (store(), Arc::<Presence>::default());
    let mut keeper = keeper("gw-1", &store).await;
    let mut sync = PresenceSync::new(Arc::clone(&presence), TIMINGS);
    let held = keeper.held().unwrap();
    store.release(held.instance(), held.token()).await.unwrap();
    enter(&presence, "alice");
    assert_eq!(sync.sync(&mut keeper, &store).await, Err(StoreError::Refused(Refusal::Expired)));
    keeper.refused(Refusal::Expired);
    assert!(matches!(keeper.request(&store, LOAD).await, Ok(LeaseReply::Granted { .. })));
    sync.granted();
    sync.sync(&mut keeper, &store).await.unwrap();
    assert_eq!(count(&store).await, 1);
}
