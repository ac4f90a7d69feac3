//! Faults in which Redis keeps its data but serves badly.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::proven;
use crate::cluster::{self, Cluster};
use crate::failure::Failure;
use crate::load;
use crate::process::reserve_port;
use crate::proxy::Traffic;
use crate::redis_server::connect;

const ROUNDS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(700);
/// Shorter than the time for which clients wait for an unreadable history.
const OVERWRITTEN: Duration = Duration::from_millis(400);
const HELD: Duration = Duration::from_millis(1_500);
/// Longer than a gateway waits for a reply.
const STOPPED: Duration = Duration::from_millis(3_000);
const SLEEP_S: &str = "0.6";
/// Messages that are sent at once to a gateway that reads nothing. They exceed the kernel's buffers.
const FLOOD_MESSAGES: usize = 400;
const FLOOD_BYTES: usize = 64 * 1024;

pub(super) async fn kill_pubsub(cluster: &mut Cluster) -> Result<String, Failure> {
    let mut killed = 0_u64;
    for _ in 0..ROUNDS {
        killed += cluster.primary.ask::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
        sleep(BETWEEN).await;
    }
    proven(killed >= cluster.gateways.len() as u64, format!("{killed} subscribers killed"))
}

pub(super) async fn function_flush(cluster: &mut Cluster) -> Result<String, Failure> {
    let mut connection = connect(cluster.primary.address, HELD).await.map_err(Failure::redis("connecting"))?;
    let mut gone = 0;
    for _ in 0..ROUNDS {
        let mut both = redis::pipe();
        both.atomic().cmd("FUNCTION").arg("FLUSH").ignore().cmd("SCRIPT").arg("FLUSH").ignore();
        both.cmd("FUNCTION").arg("LIST");
        let (left,): (Vec<redis::Value>,) =
            both.query_async(&mut connection).await.map_err(Failure::redis("FUNCTION FLUSH"))?;
        gone += usize::from(left.is_empty());
        sleep(BETWEEN).await;
    }
    let errors = cluster.primary.refusals("ERR").await?;
    proven(gone == ROUNDS && errors > 0, format!("{gone} times no library was left, {errors} calls were refused"))
}

/// Replaces streams by text for a moment. The streams are put back, so nothing is lost.
pub(super) async fn wrong_type(cluster: &mut Cluster) -> Result<String, Failure> {
    let mut connection = connect(cluster.primary.address, HELD).await.map_err(Failure::redis("connecting"))?;
    let streams: Vec<String> = load::SCOPES[..2].iter().map(|scope| cluster::stream(scope)).collect();
    let before = cluster.primary.refusals("WRONGTYPE").await?;
    let mut overwrite = redis::pipe();
    overwrite.atomic();
    for stream in &streams {
        overwrite.rename(stream, format!("{stream}:aside")).set(stream, "not a stream");
    }
    overwrite.exec_async(&mut connection).await.map_err(Failure::redis("overwriting"))?;
    sleep(OVERWRITTEN).await;
    let mut put_back = redis::pipe();
    put_back.atomic();
    for stream in &streams {
        put_back.rename(format!("{stream}:aside"), stream);
    }
    put_back.exec_async(&mut connection).await.map_err(Failure::redis("putting back"))?;
    let refused = cluster.primary.refusals("WRONGTYPE").await? - before;
    proven(refused > 0, format!("{refused} calls were refused with WRONGTYPE"))
}

pub(super) async fn output_buffer(cluster: &mut Cluster) -> Result<String, Failure> {
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 128kb 1"];
    let _: String = cluster.primary.ask(&limit).await?;
    cluster.proxies.iter().for_each(|proxy| proxy.change(|conditions| conditions.unread = Some(Traffic::Subscriber)));
    flood(cluster).await?;
    sleep(HELD).await;
    cluster.proxies.iter().for_each(|proxy| proxy.change(|conditions| conditions.unread = None));
    let _: String = cluster.primary.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"]).await?;
    let cut = cluster.primary.log().matches("overcoming of output buffer limits").count();
    proven(cut > 0, format!("Redis cut {cut} subscribers"))
}

/// Fills the subscribers' output buffers through their own probe channels, which only they receive.
async fn flood(cluster: &Cluster) -> Result<(), Failure> {
    let mut connection: MultiplexedConnection =
        connect(cluster.primary.address, HELD).await.map_err(Failure::redis("connecting"))?;
    let channels: Vec<String> = cluster.primary.ask(&["PUBSUB", "CHANNELS", "*probe*"]).await?;
    let noise = "x".repeat(FLOOD_BYTES);
    for _ in 0..FLOOD_MESSAGES {
        for channel in &channels {
            let publish = redis::cmd("PUBLISH").arg(channel).arg(&noise).query_async::<u64>(&mut connection).await;
            publish.map_err(Failure::redis("PUBLISH"))?;
        }
    }
    Ok(())
}

pub(super) async fn oom(cluster: &mut Cluster) -> Result<String, Failure> {
    let before = cluster.primary.refusals("OOM").await?;
    let _: String = cluster.primary.ask(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
    sleep(HELD).await;
    let _: String = cluster.primary.ask(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    let refused = cluster.primary.refusals("OOM").await? - before;
    proven(refused > 0, format!("{refused} calls were refused with OOM"))
}

/// The primary becomes a replica of a server that does not exist, so it keeps its data.
pub(super) async fn readonly(cluster: &mut Cluster) -> Result<String, Failure> {
    let nobody = reserve_port()?;
    let before = cluster.primary.refusals("READONLY").await?;
    let _: String = cluster.primary.ask(&["REPLICAOF", "127.0.0.1", &nobody.number().to_string()]).await?;
    sleep(HELD).await;
    let role = cluster.primary.info("replication", "role").await?;
    super::data::promote(&cluster.primary).await?;
    let refused = cluster.primary.refusals("READONLY").await? - before;
    proven(refused > 0 && role == "slave", format!("{refused} calls were refused with READONLY by a {role}"))
}

pub(super) async fn slow(cluster: &mut Cluster) -> Result<String, Failure> {
    let mut slept = Duration::ZERO;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let _: String = cluster.primary.ask(&["DEBUG", "SLEEP", SLEEP_S]).await?;
        slept += began.elapsed();
        sleep(Duration::from_millis(200)).await;
    }
    let count = cluster.primary.info("commandstats", "cmdstat_debug").await?;
    let text = format!("Redis slept {} ms in {ROUNDS} times ({count})", slept.as_millis());
    proven(slept >= Duration::from_millis(500) * ROUNDS as u32, text)
}

pub(super) async fn stop(cluster: &mut Cluster) -> Result<String, Failure> {
    cluster.primary.process.signal("-STOP")?;
    sleep(STOPPED).await;
    let is_stopped = cluster.primary.process.is_stopped()?;
    cluster.primary.process.signal("-CONT")?;
    proven(is_stopped, format!("Redis stood still for {} ms", STOPPED.as_millis()))
}
