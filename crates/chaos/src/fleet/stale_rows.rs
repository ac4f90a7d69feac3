//! The stale rows of a killed instance in Redis, and how long they stay.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::meter::IncarnationKeys;
use super::report::{Report, seconds};
use crate::redis_server::RedisServer;

/// Peers remove the rows within this time, according to `docs/guarantees.md`.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long the rows are watched, so that the figure is known even if it exceeds the bound.
const WATCHED: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Time from `killed` until Redis held nothing of this incarnation, or `None` if something stayed.
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
