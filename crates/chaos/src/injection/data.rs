//! Faults in which Redis loses data or could lose data: restarts, failovers, erasures.

use std::time::Duration;

use tokio::time::sleep;

use super::proven;
use crate::cluster::{Cluster, lost, meta, tops};
use crate::failure::Failure;
use crate::load;
use crate::polling::until;
use crate::redis_server::RedisServer;

/// Time for writes that will be lost.
pub(super) const WRITES: Duration = Duration::from_millis(1_000);
/// How long Redis is down.
const AWAY: Duration = Duration::from_millis(400);

pub(super) async fn restart_empty(cluster: &mut Cluster) -> Result<String, Failure> {
    let before = tops(&cluster.primary).await?;
    let run = replid(&cluster.primary).await?;
    cluster.primary.crash()?;
    sleep(AWAY).await;
    cluster.primary.restart().await?;
    let (after, now) = (tops(&cluster.primary).await?, replid(&cluster.primary).await?);
    let gone = lost(&before, &after);
    proven(gone > 0 && now != run, format!("{gone} messages gone, replication id {run} became {now}"))
}

pub(super) async fn restart_older(cluster: &mut Cluster) -> Result<String, Failure> {
    let _: String = cluster.primary.ask(&["SAVE"]).await?;
    sleep(WRITES).await;
    let (before, run) = (tops(&cluster.primary).await?, replid(&cluster.primary).await?);
    cluster.primary.crash()?;
    sleep(AWAY).await;
    cluster.primary.restart().await?;
    let (after, now) = (tops(&cluster.primary).await?, replid(&cluster.primary).await?);
    let (gone, kept) = (lost(&before, &after), after.len());
    let proof = format!("{gone} messages gone, {kept} scopes came back, replication id {run} became {now}");
    proven(gone > 0 && kept > 0 && now != run, proof)
}

pub(super) async fn restart_aof(cluster: &mut Cluster) -> Result<String, Failure> {
    let (before, run) = (tops(&cluster.primary).await?, replid(&cluster.primary).await?);
    cluster.primary.crash()?;
    sleep(AWAY).await;
    cluster.primary.restart().await?;
    let (after, now) = (tops(&cluster.primary).await?, replid(&cluster.primary).await?);
    let gone = lost(&before, &after);
    proven(gone == 0 && now != run, format!("{gone} messages gone, replication id {run} became {now}"))
}

pub(super) async fn failover_lost(cluster: &mut Cluster) -> Result<String, Failure> {
    let run = replid(&cluster.primary).await?;
    cluster.replication()?.change(|conditions| conditions.holds_replies = true);
    sleep(WRITES).await;
    let before = tops(&cluster.primary).await?;
    cluster.primary.crash()?;
    sleep(AWAY).await;
    promote(cluster.replica()?).await?;
    let (after, now) = (tops(cluster.replica()?).await?, replid(cluster.replica()?).await?);
    cluster.point_all_to(cluster.replica()?.address);
    let gone = lost(&before, &after);
    proven(gone > 0 && now != run, format!("{gone} messages gone, replication id {run} became {now}"))
}

pub(super) async fn failover_clean(cluster: &mut Cluster) -> Result<String, Failure> {
    let run = replid(&cluster.primary).await?;
    pause_writes(cluster).await?;
    let before = tops(&cluster.primary).await?;
    promote(cluster.replica()?).await?;
    let (after, now) = (tops(cluster.replica()?).await?, replid(cluster.replica()?).await?);
    cluster.point_all_to(cluster.replica()?.address);
    cluster.primary.crash()?;
    let gone = lost(&before, &after);
    proven(gone == 0 && now != run, format!("{gone} messages gone, replication id {run} became {now}"))
}

/// The old primary keeps the writes that no replica copied, and takes over again without the writes of its successor.
pub(super) async fn failback(cluster: &mut Cluster) -> Result<String, Failure> {
    let first = replid(&cluster.primary).await?;
    cluster.replication()?.change(|conditions| conditions.holds_replies = true);
    sleep(WRITES).await;
    let on_old = tops(&cluster.primary).await?;
    promote(cluster.replica()?).await?;
    let gone_first = lost(&on_old, &tops(cluster.replica()?).await?);
    cluster.point_all_to(cluster.replica()?.address);
    // The old primary asks for a copy and never gets one.
    let port = cluster.replication()?.address.port().to_string();
    let _: String = cluster.primary.ask(&["REPLICAOF", "127.0.0.1", &port]).await?;
    sleep(WRITES * 2).await;
    let (second, on_new) = (replid(cluster.replica()?).await?, tops(cluster.replica()?).await?);
    if let Some(server) = &mut cluster.replica {
        server.crash()?;
    }
    promote(&cluster.primary).await?;
    let (third, after) = (replid(&cluster.primary).await?, tops(&cluster.primary).await?);
    cluster.point_all_to(cluster.primary.address);
    let gone_second = lost(&on_new, &after);
    let ids_differ = first != second && second != third && first != third;
    let proof = format!("{gone_first} messages gone, then {gone_second}; replication ids {first}, {second}, {third}");
    proven(gone_first > 0 && gone_second > 0 && ids_differ, proof)
}

pub(super) async fn flushall(cluster: &mut Cluster) -> Result<String, Failure> {
    let before = tops(&cluster.primary).await?;
    let _: String = cluster.primary.ask(&["FLUSHALL"]).await?;
    let after = tops(&cluster.primary).await?;
    let calls = cluster.primary.info("commandstats", "cmdstat_flushall").await?;
    let gone = lost(&before, &after);
    proven(gone > 0 && calls.starts_with("calls=1"), format!("{gone} messages gone, flushall {calls}"))
}

pub(super) async fn meta_expired(cluster: &mut Cluster) -> Result<String, Failure> {
    let expired = async |server: &RedisServer| server.info("stats", "expired_keys").await;
    let before = expired(&cluster.primary).await?;
    for scope in load::SCOPES {
        let _: i64 = cluster.primary.ask(&["PEXPIRE", &meta(scope), "1"]).await?;
    }
    // An expired key disappears when it is looked up. A publish may have done that already and begun a new generation.
    sleep(Duration::from_millis(5)).await;
    tops(&cluster.primary).await?;
    let after = expired(&cluster.primary).await?;
    let count = |text: &str| text.parse::<u64>().unwrap_or(0);
    let gone = count(&after) - count(&before);
    proven(gone >= load::SCOPES.len() as u64, format!("{gone} keys expired"))
}

/// Makes writers wait until the replica has all data.
pub(super) async fn pause_writes(cluster: &Cluster) -> Result<(), Failure> {
    let _: String = cluster.primary.ask(&["CLIENT", "PAUSE", "20000", "WRITE"]).await?;
    let (primary, replica) = (&cluster.primary, cluster.replica()?);
    let is_level = async || {
        let ours = primary.info("replication", "master_repl_offset").await;
        let theirs = replica.info("replication", "slave_repl_offset").await;
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs && !ours.is_empty())
    };
    until("the replica has everything", is_level).await
}

/// Makes this server a primary.
pub(super) async fn promote(server: &RedisServer) -> Result<(), Failure> {
    let _: String = server.ask(&["REPLICAOF", "NO", "ONE"]).await?;
    let role = server.info("replication", "role").await?;
    if role == "master" { Ok(()) } else { Err(Failure::Unproven(format!("{} is {role}", server.name))) }
}

async fn replid(server: &RedisServer) -> Result<String, Failure> {
    Ok(server.info("replication", "master_replid").await?.chars().take(8).collect())
}
