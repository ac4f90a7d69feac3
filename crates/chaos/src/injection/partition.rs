//! One instance in its own network loses Redis and keeps its clients: packets are dropped or delayed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::namespace::Cut;
use crate::polling::until;

/// Longer than the lease (6 s) and the time until its peers remove its rows (8 s, detected at a heartbeat of 2 s).
const HELD: Duration = Duration::from_millis(12_000);

/// A quarter of the data rate that the instance is sent.
const NARROW_KBIT: u32 = 64;
const NARROW_FOR: Duration = Duration::from_millis(4_000);

pub(super) async fn starve(cluster: &mut Cluster) -> Result<String, Failure> {
    let network = cluster.namespace()?;
    network.narrow(NARROW_KBIT)?;
    sleep(NARROW_FOR).await;
    let (delayed, active) = (network.delayed()?, cluster.gateways[0].active());
    network.widen()?;
    let word = active.rsplit("\r\n").next().unwrap_or_default().trim();
    proven(delayed > 0, format!("{delayed} packets waited for {NARROW_KBIT} kbit/s, and the instance said {word}"))
}

pub(super) async fn cut(cluster: &mut Cluster, cut: Cut) -> Result<String, Failure> {
    let (gateway, ownership) = (&cluster.gateways[0], &cluster.ownership);
    let network = cluster.namespace()?;
    let count = |name: &str| gateway.metric(name).unwrap_or(0);
    let before = ownership.holder(&gateway.name);
    let began = Instant::now();
    network.cut(cut)?;
    until("the instance without Redis says so", async || gateway.active().contains("isolated")).await?;
    let noticed_after = began.elapsed();
    sleep(HELD.saturating_sub(noticed_after)).await;
    let (held, meanwhile) = (count("tidegate_connections"), ownership.holder(&gateway.name));
    let others_active = cluster.gateways[1..].iter().all(|other| other.active().contains("connected"));
    let dropped = network.dropped()?;
    network.mend()?;
    let is_back = async || gateway.is_connected() && ownership.holder(&gateway.name).is_some();
    until("the instance has Redis and a lease again", is_back).await?;
    until("a call under the lease that ended was refused", async || ownership.stale_refused() > 0).await?;
    let (fences, refused) = (count("tidegate_fences_total"), ownership.stale_refused());
    let was_lost = before.is_some() && meanwhile.is_none();
    proven(
        dropped > 0 && held > 0 && was_lost && others_active,
        format!(
            "{}: {dropped} packets dropped, isolated after {} ms, its {held} clients stayed, its lease ended, \
             {fences} fences, {refused} stale calls refused",
            gateway.name,
            noticed_after.as_millis()
        ),
    )
}
