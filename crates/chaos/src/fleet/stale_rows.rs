//! What a killed instance leaves in Redis, and for how long.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::meter::IncarnationKeys;
use super::report::{Report, seconds};
use crate::redis_server::RedisServer;

/// Peers notice within this: `docs/guarantees.md`.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// For a figure where the bound is not kept.
const WATCHED: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// How long after `killed` the last trace of this life was gone; nothing if it stayed.
pub(crate) async fn watch(redis: &RedisServer, incarnation_id: &IncarnationKeys, killed: Instant) -> Option<Duration> {
    while killed.elapsed() < WATCHED {
        if incarnation_id.is_gone(redis).await.is_ok_and(|gone| gone) {
            return Some(killed.elapsed());
        }
        sleep(POLL).await;
    }
    None
}

pub(crate) fn write_report(gone: Option<Duration>, report: &mut Report) {
    let measured = gone.map_or("never".into(), |gone| seconds(u64::try_from(gone.as_micros()).unwrap_or(u64::MAX)));
    let holds = gone.is_some_and(|gone| gone <= GONE_WITHIN);
    let bound = format!("within {} s", GONE_WITHIN.as_secs());
    report.check("stale-rows", holds, "until the dead instance and all its rows were gone from Redis", measured, bound);
}
