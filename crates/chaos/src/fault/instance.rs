//! Gateways die and leave.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::proven;
use crate::cluster::{Cluster, until};
use crate::failure::Failure;

const AWAY: Duration = Duration::from_millis(700);

pub(super) async fn kill(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.gateways.len());
    let gateway = &mut cluster.gateways[index];
    let held = gateway.connections();
    let signal = gateway.process.kill()?;
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
    gateway.process.signal(Signal::TERM)?;
    let process = tokio::sync::Mutex::new(&mut gateway.process);
    until("the drained instance has ended", async || process.lock().await.has_ended().is_ok_and(|ended| ended)).await?;
    gateway.restart()?;
    gateway.await_connected().await?;
    proven(held > 0, format!("{} left when asked, with {held} clients, and came back", gateway.name))
}
