//! Trials of a whole fleet: storms, rolling restarts, limits while instances die, and the cost of an idle fleet.
//!
//! ```text
//!   clients (thousands, by the protocol) ◀──▶ three instances with default settings ◀──▶ Redis
//!        └── one log ──▶ history-checker         └── meters: Redis' counters and rows, memory ──┐
//!        └── a trace of each: when it was disconnected, refused, live, caught up ───────────────┴─▶ Report
//! ```
//!
//! The figures come from clients, Redis and the kernel. Reports of a gateway about itself are no evidence.

mod audience;
mod harness;
mod idle;
mod limits;
mod meter;
mod pending;
mod report;
mod rolling;
mod stale_rows;
mod storm;
mod subscriber;
mod trace;

use std::time::Duration;

use clap::ValueEnum;

use crate::environment::Environment;
use crate::failure::Failure;
use report::Report;

/// One trial of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trial {
    /// One of three instances is killed, with a third of all clients.
    Storm,
    /// The instance that serves all clients is killed.
    StormAll,
    /// Every instance is restarted, one after the other, under load.
    Rolling,
    /// Every instance is restarted under load, and Redis is restarted in between.
    RollingRedis,
    /// Users at their connection limit lose an instance several times.
    Limits,
    /// No messages and no reconnects: measures what an idle fleet costs Redis.
    Idle,
}

/// The size of the trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Length {
    /// Thousands of clients, one trial after the other.
    Long,
    /// Hundreds of clients, all trials at the same time, in less than a minute.
    Short,
}

/// Runs these trials, or all trials if the list is empty. Returns the report of each trial, or why it failed to run.
pub(crate) async fn run(
    environment: &Environment,
    trials: &[Trial],
    length: Length,
    seed: u64,
) -> Vec<(Trial, Result<Report, Failure>)> {
    let named = !trials.is_empty();
    let of_length: &[Trial] = match length {
        Length::Long => Trial::value_variants(),
        Length::Short => &[Trial::Storm, Trial::RollingRedis, Trial::Limits, Trial::Idle],
    };
    let trials = if named { trials } else { of_length };
    let each = trials.iter().map(async |trial| (*trial, trial.run(environment, length, seed).await));
    match length {
        Length::Short => futures_util::future::join_all(each).await,
        Length::Long => {
            let mut reports = Vec::new();
            for one in each {
                reports.push(one.await);
            }
            reports
        }
    }
}

impl Trial {
    async fn run(self, environment: &Environment, length: Length, seed: u64) -> Result<Report, Failure> {
        let is_long = length == Length::Long;
        match self {
            Self::Storm | Self::StormAll => {
                storm::storm(environment, storm_size(is_long), self == Self::StormAll, seed).await
            }
            Self::Rolling | Self::RollingRedis => {
                let redis = self == Self::RollingRedis;
                rolling::rolling(environment, rolling_size(is_long, redis), redis, seed).await
            }
            Self::Limits => {
                let (users, kills) = if is_long { (60, 4) } else { (10, 1) };
                limits::limits(environment, limits::Size { users, kills }, seed).await
            }
            Self::Idle => {
                let (few, many, window) = if is_long { (100, 2_000, 60) } else { (30, 300, 5) };
                idle::idle(environment, idle::Size { few, many, window: Duration::from_secs(window) }, seed).await
            }
        }
    }
}

/// The short trial has a connection rate that its few clients exceed.
fn storm_size(is_long: bool) -> storm::Size {
    let second = Duration::from_secs(1);
    if is_long {
        storm::Size { clients: 10_000, scopes: 20, connects_per_second: None, back: 5 * second, quiet: 12 * second }
    } else {
        storm::Size { clients: 450, scopes: 8, connects_per_second: Some(20), back: 10 * second, quiet: 4 * second }
    }
}

fn rolling_size(is_long: bool, redis: bool) -> rolling::Size {
    let second = Duration::from_secs(1);
    if is_long {
        let silence = if redis { 5 * second } else { 2 * second };
        rolling::Size { clients: 2_000, scopes: 20, publish_every: 60 * second, silence }
    } else {
        rolling::Size { clients: 450, scopes: 8, publish_every: 15 * second, silence: 10 * second }
    }
}
