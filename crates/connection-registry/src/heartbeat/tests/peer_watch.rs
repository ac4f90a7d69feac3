//! The peer watch: peers are published, and a peer that holds its lease is not removed.

use super::*;
use crate::heartbeat::peer_watch::PeerWatch;

#[tokio::test]
async fn peers_are_published_after_each_look() {
    let store = store();
    let (mut own, _other) = (keeper("gw-1", &store).await, keeper("gw-2", &store).await);
    let (mut watch, peers) = PeerWatch::new(own.instance(), TIMINGS);
    assert_eq!((peers.borrow().others.len(), peers.borrow().seen), (0, None));
    watch.look(&mut own, &store).await.unwrap();
    let seen = peers.borrow().clone();
    let others: Vec<&str> = seen.others.iter().map(|peer| peer.instance.id.as_str()).collect();
    assert_eq!((others, seen.seen.is_some(), seen.doubted), (vec!["gw-2"], true, false));
}

#[tokio::test]
async fn a_silent_peer_that_holds_its_lease_is_not_removed() {
    let short = Duration::from_millis(1);
    let (store, timings) = (store(), Timings { heartbeat: short, lease: 2 * short, reap: 3 * short, ..TIMINGS });
    let (mut own, _other) = (keeper("gw-1", &store).await, keeper("gw-2", &store).await);
    tokio::time::sleep(10 * short).await;
    let (mut watch, _peers) = PeerWatch::new(own.instance(), timings);
    watch.look(&mut own, &store).await.unwrap();
    assert_eq!(watch.reap(&mut own, &store).await, (0, Ok(())));
}
