//! Follows the log of revocations in Redis, and lets the shards close the connections that it concerns.

use std::convert::Infallible;
use std::time::Duration;

use connection_registry::{RevocationCursor, RevocationLog, StoreError};
use tokio::time::sleep;

use crate::auth::revocations::Revocations;
use crate::health::Health;
use crate::health::instance_state::BrokerStatus;
use crate::host::clock::unix_ms;
use crate::shard::hub::Hub;
use crate::shard::requests::ToShard;

/// Time between two reads. A revocation reaches every connected instance within a second.
const POLL: Duration = Duration::from_millis(300);
/// Time after a read that failed.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Reads the log until dropped, if there is one. `connect` opens it: when the broker is back, a connection that was cut
/// off may stay silent for seconds, so the log is read at once over a new one.
pub(super) async fn follow(
    connect: impl Fn() -> Option<RevocationLog>,
    revocations: &Revocations,
    health: &Health,
    hub: &Hub,
) -> Infallible {
    let Some(mut log) = connect() else { return std::future::pending().await };
    let mut cursor = RevocationCursor::default();
    // A later page may lift what an earlier one revokes, so all pages take effect together.
    let mut entries = Vec::new();
    let mut is_failing = false;
    loop {
        let step = async {
            let pause = match log.read(&mut cursor).await {
                Ok(page) => {
                    is_failing = false;
                    entries.extend(page.entries);
                    if page.has_more {
                        Duration::ZERO
                    } else {
                        if revocations.apply(&std::mem::take(&mut entries), unix_ms()) {
                            hub.shards().for_each(|shard| shard.inbox.push(ToShard::CloseRevoked, 0));
                        }
                        POLL
                    }
                }
                Err(error) => {
                    // While the broker is away, its own log lines say so, perhaps a moment later.
                    if !std::mem::replace(&mut is_failing, true) && health.broker() == BrokerStatus::Up {
                        match &error {
                            StoreError::Unreachable(_) | StoreError::NoAnswer(_) => {
                                tracing::info!(%error, "reading revocations failed");
                            }
                            _ => tracing::warn!(%error, "reading revocations failed"),
                        }
                    }
                    RETRY_AFTER
                }
            };
            sleep(pause).await;
        };
        tokio::select! {
            biased;
            () = health.broker_returned() => log = connect().unwrap_or(log),
            () = step => {}
        }
    }
}
