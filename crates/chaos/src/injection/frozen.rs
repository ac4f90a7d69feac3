//! An instance is stopped past its lease and then continues. It must detect that it is fenced, and begin a new
//! incarnation.

use std::time::Duration;

use tokio::time::sleep;

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::polling::until;

/// Longer than the lease (6 s) and the time until its peers remove its rows (8 s, detected at a heartbeat of 2 s).
const STOPPED: Duration = Duration::from_millis(12_000);

pub(super) async fn stop(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.gateways.len());
    let (gateway, ownership) = (&cluster.gateways[index], &cluster.ownership);
    let name = &gateway.name;
    let (before, held) = (ownership.holder(name), gateway.connections());
    gateway.process.signal("-STOP")?;
    // For its peers, a stopped instance is the same as a dead one.
    ownership.died(name);
    sleep(STOPPED).await;
    let (is_stopped, meanwhile) = (gateway.process.is_stopped()?, ownership.holder(name));
    // HAProxy closes the sockets of a frozen instance. Nothing else closes them.
    let is_left = match &cluster.balancer {
        Some(balancer) => balancer.times_down(index)? > 0,
        None => true,
    };
    gateway.process.signal("-CONT")?;
    let has_new_incarnation = async || ownership.holder(name).is_some_and(|now| Some(&now) != before.as_ref());
    until("the instance that slept has a new life", has_new_incarnation).await?;
    until("a call of its old life was refused", async || ownership.stale_refused() > 0).await?;
    let fences = gateway.metric("tidegate_fences_total").unwrap_or(0);
    let refused = ownership.stale_refused();
    let is_over = before.is_some() && meanwhile.is_none();
    proven(
        is_stopped && is_over && fences == 1 && held > 0 && is_left,
        format!(
            "{name} stood still for {} ms with {held} clients, {fences} fence, {refused} stale calls refused",
            STOPPED.as_millis()
        ),
    )
}
