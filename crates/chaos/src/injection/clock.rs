//! Wall clocks jump by hours. No lease, token check or limit may follow them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::proven;
use crate::cluster::Cluster;
use crate::entrance::dial;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::polling::until;
use crate::redis_server::RedisServer;
use crate::token;

/// Longer than a lease. A process that uses the wrong clock has lost or kept a lease by then.
const HELD: Duration = Duration::from_millis(7_000);
/// Less than any retention time, and more than the lifetime of a lease, of rows, of ids and of tokens.
pub(super) const HOURS: i64 = 5;
const HOUR_S: i64 = 3_600;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// Redis' clock jumps and stays there. Leases could end at once or last for hours.
pub(super) async fn redis(cluster: &mut Cluster, hours: i64) -> Result<String, Failure> {
    let incarnation_ids = cluster.incarnation_ids();
    cluster.clock()?.set(hours)?;
    let primary = &cluster.primary;
    until("Redis' clock has jumped", async || hours_ahead(primary).await.is_ok_and(|ahead| ahead == hours)).await?;
    sleep(HELD).await;
    let ahead = hours_ahead(primary).await?;
    let (fences, kept) =
        (fences(cluster), cluster.incarnation_ids() == incarnation_ids && !incarnation_ids.contains(&None));
    proven(
        ahead == hours && fences == 0 && kept,
        format!("Redis' clock was {ahead} h ahead, {fences} fences, all leases are held by whom they were: {kept}"),
    )
}

/// The first gateway's clock jumps forwards, backwards and back to the correct time.
pub(super) async fn gateway(cluster: &mut Cluster) -> Result<String, Failure> {
    let (incarnation_ids, mut seen) = (cluster.incarnation_ids(), Vec::new());
    for hours in [HOURS, -HOURS, 0] {
        cluster.clock()?.set(hours)?;
        let (gateway, text) = (&cluster.gateways[0], format!("gw-1's clock is {hours:+} h off"));
        until(&text, async || hours_at(gateway).await == Some(hours)).await?;
        sleep(HELD / 2).await;
        seen.push(cluster.gateways[0].is_connected() && cluster.incarnation_ids() == incarnation_ids);
    }
    let fences = fences(cluster);
    let kept = !incarnation_ids.contains(&None) && seen.iter().all(|kept| *kept);
    proven(
        fences == 0 && kept,
        format!(
            "gw-1's clock was {HOURS} h ahead, {HOURS} h behind and right again, {fences} fences, lease kept: {kept}"
        ),
    )
}

fn fences(cluster: &Cluster) -> u64 {
    cluster.gateways.iter().map(|gateway| gateway.metric("tidegate_fences_total").unwrap_or(1)).sum()
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

async fn hours_ahead(server: &RedisServer) -> Result<i64, Failure> {
    let (seconds, _): (i64, i64) = server.ask(&["TIME"]).await?;
    Ok((seconds - now_s() + HOUR_S / 2).div_euclid(HOUR_S))
}

/// Which of the three offsets the first gateway's clock has, according to the tokens that it accepts.
async fn hours_at(gateway: &Gateway) -> Option<i64> {
    let short = HOURS * HOUR_S / 2;
    match (takes(gateway, short).await?, takes(gateway, -short).await?) {
        (false, false) => Some(HOURS),
        (true, false) => Some(0),
        (true, true) => Some(-HOURS),
        (false, true) => None,
    }
}

/// Whether the gateway accepts a token that expires in this many seconds, or that expired if they are negative.
async fn takes(gateway: &Gateway, seconds: i64) -> Option<bool> {
    let mut socket = dial(gateway.address, &token::sign_for("clock", seconds)).await?;
    let first = timeout(ANSWER_TIME_MAX, socket.next()).await.ok()??.ok()?;
    Some(first.to_text().ok()?.contains("\"welcome\""))
}
