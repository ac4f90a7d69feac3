//! Faults of the network between gateways and Redis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{data, proven};
use crate::cluster::{Cluster, lost, tops};
use crate::failure::Failure;
use crate::process::reserve_port;
use crate::proxy::{Counts, Proxy};
use crate::redis_server::connect;

const HELD: Duration = Duration::from_millis(2_000);
/// Replies in transit arrive within this time.
const DRAINED: Duration = Duration::from_millis(150);
const DELAY_MAX: Duration = Duration::from_millis(250);

fn sum(cluster: &Cluster, count: impl Fn(&Counts) -> u64) -> u64 {
    cluster.proxies.iter().map(|proxy| count(&proxy.counts)).sum()
}

pub(super) async fn latency(cluster: &mut Cluster) -> Result<String, Failure> {
    let everywhere = || cluster.proxies.iter().chain([&cluster.calls]);
    everywhere().for_each(|proxy| proxy.change(|conditions| conditions.delay_max = DELAY_MAX));
    sleep(HELD).await;
    let mut slowest = Duration::ZERO;
    for proxy in everywhere() {
        slowest = slowest.max(round_trip(proxy).await?);
    }
    everywhere().for_each(|proxy| proxy.change(|conditions| conditions.delay_max = Duration::ZERO));
    let delayed = sum(cluster, |counts| counts.delayed.load(Ordering::Relaxed));
    let text = format!("{delayed} pieces were delayed, a round trip took {} ms", slowest.as_millis());
    proven(delayed > 0 && slowest > Duration::from_millis(50), text)
}

pub(super) async fn kill_pubsub_slow(cluster: &mut Cluster) -> Result<String, Failure> {
    cluster.proxies.iter().for_each(|proxy| proxy.change(|conditions| conditions.delay_max = DELAY_MAX));
    sleep(HELD / 4).await;
    let killed: u64 = cluster.primary.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    sleep(HELD * 2).await;
    cluster.proxies.iter().for_each(|proxy| proxy.change(|conditions| conditions.delay_max = Duration::ZERO));
    let delayed = sum(cluster, |counts| counts.delayed.load(Ordering::Relaxed));
    let is_there = killed >= cluster.gateways.len() as u64 && delayed > 0;
    proven(is_there, format!("{killed} subscribers killed, {delayed} pieces delayed"))
}

async fn round_trip(proxy: &Proxy) -> Result<Duration, Failure> {
    let mut connection = connect(proxy.address, HELD).await.map_err(Failure::redis("connecting"))?;
    let began = Instant::now();
    let _: String = redis::cmd("PING").query_async(&mut connection).await.map_err(Failure::redis("PING"))?;
    Ok(began.elapsed())
}

pub(super) async fn cut(cluster: &mut Cluster) -> Result<String, Failure> {
    let everywhere = || cluster.proxies.iter().chain([&cluster.calls]);
    let mut ended = 0;
    for proxy in everywhere() {
        proxy.change(|conditions| conditions.is_cut = true);
        ended += proxy.cut();
    }
    sleep(HELD).await;
    everywhere().for_each(|proxy| proxy.change(|conditions| conditions.is_cut = false));
    let refused = sum(cluster, |counts| counts.refused.load(Ordering::Relaxed));
    proven(ended > 0 && refused > 0, format!("{ended} connections were cut, {refused} refused"))
}

pub(super) async fn cut_one(cluster: &mut Cluster) -> Result<String, Failure> {
    let index = cluster.random.below(cluster.proxies.len());
    let proxy = &cluster.proxies[index];
    proxy.change(|conditions| conditions.is_cut = true);
    let ended = proxy.cut();
    sleep(HELD).await;
    proxy.change(|conditions| conditions.is_cut = false);
    let refused = proxy.counts.refused.load(Ordering::Relaxed);
    let name = &cluster.gateways[index].name;
    proven(ended > 0 && refused > 0, format!("{name}: {ended} connections were cut, {refused} refused"))
}

/// Replies that the proxy holds at the end are discarded. Their commands keep an unknown outcome.
pub(super) async fn one_way(cluster: &mut Cluster) -> Result<String, Failure> {
    let before = tops(&cluster.primary).await?;
    let everywhere = || cluster.proxies.iter().chain([&cluster.calls]);
    everywhere().for_each(|proxy| proxy.change(|conditions| conditions.holds_replies = true));
    sleep(HELD).await;
    let after = tops(&cluster.primary).await?;
    for proxy in everywhere() {
        proxy.cut();
        proxy.change(|conditions| conditions.holds_replies = false);
    }
    let held = sum(cluster, |counts| counts.held.load(Ordering::Relaxed));
    let taken = lost(&after, &before);
    proven(held > 0 && taken > 0, format!("{held} bytes were held, Redis took {taken} messages unheard"))
}

/// The old primary follows a server that does not exist, so it receives nothing, and subscribers stay connected to it.
/// Calls are held while the replica takes over, and continue there. No connection breaks, and nothing is lost.
pub(super) async fn stuck_subscriber(cluster: &mut Cluster) -> Result<String, Failure> {
    cluster.calls.change(|conditions| conditions.is_cut = true);
    cluster.calls.cut();
    cluster.proxies.iter().for_each(Proxy::pause_calls);
    sleep(DRAINED).await;
    data::pause_writes(cluster).await?;
    let new = cluster.replica()?.address;
    data::promote(cluster.replica()?).await?;
    let nobody = reserve_port()?;
    let _: String = cluster.primary.ask(&["REPLICAOF", "127.0.0.1", &nobody.number().to_string()]).await?;
    let _: String = cluster.primary.ask(&["CLIENT", "UNPAUSE"]).await?;
    let mut moved = 0;
    for proxy in &cluster.proxies {
        moved += proxy.resplice_calls(new).await?;
    }
    cluster.calls.change(|conditions| (conditions.target, conditions.is_cut) = (new, false));
    let clients: String = cluster.primary.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).await?;
    let stuck = clients.lines().count();
    sleep(HELD).await;
    // New connections reach the new primary.
    cluster.proxies.iter().for_each(|proxy| proxy.change(|conditions| conditions.target = new));
    let text = format!("{stuck} subscribers were on the demoted node, {moved} connections for calls were moved");
    proven(stuck >= cluster.gateways.len() && moved > 0, text)
}
