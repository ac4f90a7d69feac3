//! Executes the decisions of [`Rebalance`]: asks shards to move clients to emptier instances, and tells the edge to
//! divert clients that come back.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Instant;

use connection_registry::Peers;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::health::instance_state::InstanceState;
use crate::instance::fleet::Fleet;
use crate::instance::rebalance::{OwnLoad, Rebalance, SLOT};
use crate::metrics::counters::EdgeCounters;
use crate::shard::shared::Shared;

/// Decides after each report of the peers, and more often while clients move.
pub(super) async fn run(
    shared: &Shared,
    mut peers: watch::Receiver<Peers>,
    diverts: &Cell<bool>,
    counters: &EdgeCounters,
) -> Infallible {
    let Shared { config, hub, health, .. } = shared;
    if config.rebalance.per_second == 0 {
        return std::future::pending().await;
    }
    let mut rebalance = Rebalance::new(config.rebalance, config.registry.heartbeat);
    loop {
        let peers_changed = tokio::select! {
            peers_changed = peers.changed() => peers_changed,
            () = sleep(SLOT), if rebalance.is_active() => Ok(()),
        };
        if peers_changed.is_err() {
            // The heartbeat task has ended, so the instance is stopping.
            return std::future::pending().await;
        }
        let now = Instant::now();
        let is_full = health.instance_state(now) == InstanceState::Connected;
        let own = OwnLoad { connections: hub.connections(), moved: hub.rebalanced(), is_full };
        let (was_active, futile) = (rebalance.is_active(), rebalance.futile());
        let count = rebalance.look(now, own, &Fleet::of(&peers.borrow_and_update()));
        diverts.set(rebalance.is_active());
        if count > 0 {
            hub.rebalance(count, config.rebalance.spare, SLOT);
        }
        let connections = own.connections;
        if rebalance.futile() > futile {
            counters.rebalance_pauses.add(1);
            tracing::warn!(
                connections,
                "rebalancing paused: moved clients came back; check that the other instances can be reached"
            );
        } else if rebalance.is_active() && !was_active {
            tracing::info!(connections, "rebalancing started");
        } else if was_active && !rebalance.is_active() {
            tracing::info!(connections, moved = own.moved, "rebalancing stopped");
        }
    }
}
