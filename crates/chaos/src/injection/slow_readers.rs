//! Clients read more slowly than they are sent messages. Gateways must use each way to deal with them.

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::polling::until;

/// The metrics of the three ways: clients that fell behind, messages that newer ones replaced, clients that were
/// closed.
const WAYS: [&str; 3] = ["tidegate_slow_clients", "tidegate_superseded_total", "tidegate_slow_closes_total"];

pub(super) async fn slow(cluster: &mut Cluster) -> Result<String, Failure> {
    let sum = |name: &str| cluster.gateways.iter().filter_map(|gateway| gateway.metric(name)).sum::<u64>();
    until("slow clients were dealt with in each way", async || WAYS.map(sum).iter().all(|count| *count > 0)).await?;
    let [behind, left_out, closed] = WAYS.map(sum);
    let text = format!("{behind} clients behind, {left_out} messages gave way to newer ones, {closed} clients closed");
    proven(behind > 0, text)
}
