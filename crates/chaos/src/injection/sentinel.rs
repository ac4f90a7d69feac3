//! Sentinels replace the primary. Nothing else promotes a server, and gateways find the new primary by themselves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::data::WRITES;
use super::proven;
use crate::cluster::{Cluster, lost, tops};
use crate::failure::Failure;
use crate::polling::until;
use crate::process;
use crate::proxy::Traffic;

/// How long two of the three Sentinels do not know of the failover.
const STALE: Duration = Duration::from_millis(2_500);
/// Delay of each piece to and from the informed Sentinel, so that it answers later than the other two.
const FAR: Duration = Duration::from_millis(80);

/// The primary dies with writes that its replica never received.
pub(super) async fn kill(cluster: &mut Cluster) -> Result<String, Failure> {
    let front = &cluster.sentinels()?.fronts[0];
    front.change(|conditions| conditions.unread = Some(Traffic::Replication));
    sleep(WRITES).await;
    let before = tops(&cluster.primary).await?;
    let signal = process::kill(&mut cluster.primary.process)?;
    let began = Instant::now();
    let sentinels = cluster.sentinels()?;
    sentinels.expect_a_failure().await?;
    sentinels.until_switched(3).await?;
    let took = began.elapsed().as_millis();
    sentinels.fronts[0].change(|conditions| conditions.unread = None);
    let after = tops(cluster.replica()?).await?;
    cluster.point_calls_to(cluster.replica()?.address);
    let gone = lost(&before, &after);
    let text = format!(
        "the primary died of signal {signal}, {took} ms later all Sentinels named another, {gone} messages gone"
    );
    proven(signal == 9 && gone > 0, text)
}

/// The primary is stopped until another server has taken its place. Then it continues as if it were still the primary.
pub(super) async fn stop(cluster: &mut Cluster) -> Result<String, Failure> {
    let (sentinels, primary) = (cluster.sentinels()?, &cluster.primary);
    primary.process.signal("-STOP")?;
    sentinels.expect_a_failure().await?;
    sentinels.until_switched(3).await?;
    let is_stopped = primary.process.is_stopped()?;
    cluster.point_calls_to(cluster.replica()?.address);
    primary.process.signal("-CONT")?;
    let role = primary.info("replication", "role").await?;
    let gone = until_it_follows(cluster).await?;
    let text =
        format!("the old primary woke as a {role} and was made a replica, {gone} messages gone with what it took");
    proven(is_stopped && role == "master", text)
}

/// One Sentinel fails over and reports it. The other two still name the old primary, which still accepts writes.
pub(super) async fn stale_majority(cluster: &mut Cluster) -> Result<String, Failure> {
    let sentinels = cluster.sentinels()?;
    let [old, new] = sentinels.fronts.each_ref().map(|front| front.address.port());
    sentinels.far.change(|conditions| conditions.delay_max = FAR);
    sentinels.isolate().await?;
    // Backends learn of the failover and wait, so their proxy is cut.
    cluster.calls.change(|conditions| conditions.is_cut = true);
    cluster.calls.cut();
    sentinels.fail_over().await?;
    sentinels.until_switched(1).await?;
    cluster.point_calls_to(cluster.replica()?.address);
    let mut seen = Vec::new();
    for pause in [Duration::ZERO, STALE] {
        sleep(pause).await;
        let role = cluster.primary.info("replication", "role").await?;
        seen.push(sentinels.named().await? == [new, old, old] && role == "master");
    }
    sentinels.far.change(|conditions| conditions.delay_max = Duration::ZERO);
    sentinels.reconnect();
    sentinels.until_switched(3).await?;
    let gone = until_it_follows(cluster).await?;
    let text = format!(
        "for {} ms one Sentinel named another primary than the other two, and both took writes ({seen:?}), \
         {gone} messages gone with what the old one took",
        STALE.as_millis()
    );
    proven(seen == [true, true], text)
}

/// Waits until a Sentinel has made the old primary a replica of the new one. Returns the number of messages that were
/// lost.
async fn until_it_follows(cluster: &Cluster) -> Result<u64, Failure> {
    let (primary, port) = (&cluster.primary, cluster.sentinels()?.fronts[1].address.port().to_string());
    let newest = Mutex::new(tops(primary).await?);
    let follows = async || {
        let field = async |name: &str| primary.info("replication", name).await.unwrap_or_default();
        // As a replica, it has the data of the new primary.
        let tops = tops(primary).await;
        if field("role").await == "master"
            && let Ok(tops) = tops
        {
            *newest.lock().unwrap_or_else(PoisonError::into_inner) = tops;
        }
        field("master_port").await == port && field("master_link_status").await == "up"
    };
    until("the old primary follows the new one", follows).await?;
    let newest = newest.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(lost(&newest, &tops(cluster.replica()?).await?))
}
