//! Injects one fault into a cluster and proves its effect.
//!
//! [`inject`] begins, holds and ends a fault, and returns the proof that it took effect. A run without proof fails: a
//! green run in which nothing broke proves nothing.

mod claimant;
mod clock;
mod data;
mod frozen;
mod instance;
mod loss;
mod network;
mod partition;
mod sentinel;
mod service;
mod slow_readers;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::namespace::Cut;

/// Injects the fault, waits, and ends it. Returns the proof of its effect.
pub(crate) async fn inject(fault: Fault, cluster: &mut Cluster) -> Result<String, Failure> {
    match fault {
        // In `two-sockets`, the clients themselves are the fault.
        Fault::None | Fault::TwoSockets => Ok("nothing was to be broken".into()),
        Fault::RestartEmpty => data::restart_empty(cluster).await,
        Fault::RestartOlder => data::restart_older(cluster).await,
        Fault::RestartAof => data::restart_aof(cluster).await,
        Fault::FailoverLost => data::failover_lost(cluster).await,
        Fault::FailoverClean => data::failover_clean(cluster).await,
        Fault::Failback => data::failback(cluster).await,
        Fault::SentinelKill => sentinel::kill(cluster).await,
        Fault::SentinelStop => sentinel::stop(cluster).await,
        Fault::SentinelStale => sentinel::stale_majority(cluster).await,
        Fault::Flushall => data::flushall(cluster).await,
        Fault::MetaExpired => data::meta_expired(cluster).await,
        Fault::KillPubsub => service::kill_pubsub(cluster).await,
        Fault::KillPubsubSlow => network::kill_pubsub_slow(cluster).await,
        Fault::WrongType => service::wrong_type(cluster).await,
        Fault::FunctionFlush => service::function_flush(cluster).await,
        Fault::OutputBuffer => service::output_buffer(cluster).await,
        Fault::Oom => service::oom(cluster).await,
        Fault::Readonly => service::readonly(cluster).await,
        Fault::SlowRedis => service::slow(cluster).await,
        Fault::StopRedis => service::stop(cluster).await,
        Fault::StuckSubscriber => network::stuck_subscriber(cluster).await,
        Fault::Latency => network::latency(cluster).await,
        Fault::PacketLoss => loss::packet_loss(cluster).await,
        Fault::Cut | Fault::CutLocal => network::cut(cluster).await,
        Fault::CutOne => network::cut_one(cluster).await,
        Fault::Partition => partition::cut(cluster, Cut::Both).await,
        Fault::PartitionSend => partition::cut(cluster, Cut::Sent).await,
        Fault::PartitionReceive => partition::cut(cluster, Cut::Received).await,
        Fault::Starve => partition::starve(cluster).await,
        Fault::OneWay => network::one_way(cluster).await,
        Fault::KillGateway => instance::kill(cluster).await,
        Fault::StopGateway => frozen::stop(cluster).await,
        Fault::KillReturn => claimant::kill_return(cluster).await,
        Fault::Twin => claimant::twin(cluster).await,
        Fault::ClockRedisAhead => clock::redis(cluster, clock::HOURS).await,
        Fault::ClockRedisBack => clock::redis(cluster, -clock::HOURS).await,
        Fault::ClockGateway => clock::gateway(cluster).await,
        Fault::Drain => instance::drain(cluster).await,
        Fault::SlowReaders => slow_readers::slow(cluster).await,
    }
}

/// Returns the proof if the condition holds.
fn proven(is_so: bool, proof: String) -> Result<String, Failure> {
    if is_so { Ok(proof) } else { Err(Failure::Unproven(proof)) }
}
