//! Gateways are killed or drained.

use std::time::Duration;

use tokio::time::sleep;

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::polling::until;
use crate::process;

const AWAY: Duration = Duration::from_millis(700);

pub(super) async fn kill(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.gateways.len());
    let gateway = &mut cluster.gateways[index];
    let held = gateway.connections();
    let signal = process::kill(&mut gateway.process)?;
    cluster.ownership.died(&gateway.name);
    sleep(AWAY).await;
    gateway.restart()?;
    gateway.await_connected().await?;
    proven(signal == 9 && held > 0, format!("{} died of signal {signal} with {held} clients", gateway.name))
}

pub(super) async fn drain(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.gateways.len());
    let gateway = &mut cluster.gateways[index];
    let held = gateway.connections();
    gateway.process.signal("-TERM")?;
    let process = tokio::sync::Mutex::new(&mut gateway.process);
    until("the drained instance has ended", async || {
        process.lock().await.status().is_ok_and(|status| status.is_some())
    })
    .await?;
    gateway.restart()?;
    gateway.await_connected().await?;
    proven(held > 0, format!("{} left when asked, with {held} clients, and came back", gateway.name))
}
