//! Two processes with one instance id, at the same time and one after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::polling::until;
use crate::process;

/// Both processes run for longer than a lease lasts.
const TOGETHER: Duration = Duration::from_millis(7_000);

/// Kills an instance and restarts it at once, while its old incarnation still holds the lease.
pub(super) async fn kill_return(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.gateways.len());
    let (gateway, ownership) = (&mut cluster.gateways[index], &cluster.ownership);
    let (before, held) = (ownership.holder(&gateway.name), gateway.connections());
    let signal = process::kill(&mut gateway.process)?;
    ownership.died(&gateway.name);
    let began = Instant::now();
    gateway.restart()?;
    until("it stands without a lease", async || gateway.active().contains("lease_lost")).await?;
    gateway.await_connected().await?;
    let took = began.elapsed().as_millis();
    until("a call of its old life was refused", async || ownership.stale_refused() > 0).await?;
    let has_new_incarnation = before.is_some() && ownership.holder(&gateway.name) != before;
    let name = &gateway.name;
    let text = format!(
        "{name} died of signal {signal} with {held} clients, was lease_lost, and had its lease after {took} ms"
    );
    proven(signal == 9 && has_new_incarnation && held > 0, text)
}

/// Starts a second process with the id of the last gateway. The first process keeps the lease until it is killed. Then
/// the second one acquires it, and releases it when it leaves.
pub(super) async fn twin(cluster: &mut Cluster) -> Result<String, Failure> {
    let (Some(first), ownership) = (cluster.gateways.last_mut(), &cluster.ownership) else {
        return Err(Failure::Unproven("there is no gateway".into()));
    };
    let Some(twin) = &mut cluster.twin else { return Err(Failure::Unproven("there is no twin".into())) };
    let name = first.name.clone();
    let before = ownership.holder(&name);
    twin.restart()?;
    until("the twin stands without a lease", async || twin.active().contains("lease_lost")).await?;
    sleep(TOGETHER).await;
    let is_kept = before.is_some() && ownership.holder(&name) == before;
    let (was_active, served) = (first.active().contains("connected"), twin.metric("tidegate_deliveries_total"));
    let fences = first.metric("tidegate_fences_total").unwrap_or(0);
    process::kill(&mut first.process)?;
    ownership.died(&name);
    until("the twin has the lease", async || twin.is_connected()).await?;
    first.restart()?;
    until("the first stands without a lease", async || first.active().contains("lease_lost")).await?;
    twin.process.signal("-TERM")?;
    until("the first has its lease again", async || first.is_connected()).await?;
    let process = tokio::sync::Mutex::new(&mut twin.process);
    until("the twin has ended", async || process.lock().await.status().is_ok_and(|status| status.is_some())).await?;
    until("a call of the first life was refused", async || ownership.stale_refused() > 0).await?;
    proven(
        is_kept && was_active && fences == 0 && served.is_some_and(|served| served > 0),
        format!(
            "two had the name {name} for {} ms and the first kept the lease, the second delivered {} messages without \
             it, had it when the first was killed, and gave it back",
            TOGETHER.as_millis(),
            served.unwrap_or(0)
        ),
    )
}
