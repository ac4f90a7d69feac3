//! Injects one fault at a time into a real cluster under load. The history checker judges what clients received.
//!
//! ```text
//!   publishers ──▶ (HAProxy) ──▶ gateways ──▶ proxy ──▶ Redis      one run: steady ─▶ fault ─▶ mended ─▶ quiet
//!   clients ◀───── (HAProxy) ◀── gateways ◀── proxy ◀── Redis                      │ proven, or the run fails
//!        └────────────┴── one log ──▶ history-checker ──▶ verdict ──▶ one row of the table
//! ```
//!
//! Every second run goes through HAProxy with the shipped file. In half of the runs, clients receive over event
//! streams. Redis, its replica and Sentinels, HAProxy and the gateways are real processes. The proxies in front of
//! Redis run in this process. The logs of gateways are kept for finding a cause. They are never evidence.
//!
//! This program is not part of the product. It shares only the names of the Redis keys with the product.

mod balancer;
mod client;
mod cluster;
mod contending_sessions;
mod entrance;
mod environment;
mod failure;
mod fault;
mod fleet;
mod gateway;
mod injection;
mod load;
mod namespace;
mod ownership;
mod polling;
mod process;
mod proxy;
mod publisher;
mod recorder;
mod redis_sentinels;
mod redis_server;
mod run;
mod run_harness;
mod table;
mod token;
mod wall_clock;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum as _};
use history_checker::Transport;

use crate::entrance::Via;
use crate::environment::Environment;
use crate::fault::Fault;
use crate::fleet::{Length, Trial};
use crate::run::{Case, RunOutcome, run};

#[derive(Debug, Parser)]
#[command(about = "Breaks a real cluster and lets the history checker judge what was received.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs faults and prints the table. Fails if a message was lost, duplicated or reordered without notice, if a gap
    /// was announced without a loss, or if a fault did not take effect.
    Run(RunArgs),
    /// Measures reconnect storms, rolling restarts, limits and an idle fleet. Prints each figure beside its bound.
    Fleet(FleetArgs),
    /// Internal: runs another program that ends when its parent ends.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        parent: u32,
        #[arg(last = true)]
        program: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The gateway binary under test.
    #[arg(long, value_name = "FILE")]
    gateway: PathBuf,
    /// The history-checker binary.
    #[arg(long, value_name = "FILE")]
    checker: PathBuf,
    /// The HAProxy binary, for runs through HAProxy.
    #[arg(long, value_name = "FILE", default_value = "haproxy")]
    haproxy: PathBuf,
    /// Directory for logs. The logs of clean runs are removed.
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    directory: PathBuf,
    /// Runs only these faults. Default: all faults.
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<Fault>,
    /// How clients reach gateways. Default: the runs alternate. In `twin` and `slow-readers` they always connect
    /// directly.
    #[arg(long, value_name = "WAY")]
    via: Option<Via>,
    /// The transport over which clients receive: `websocket` or `sse`. Default: the runs alternate. Publishers, clients
    /// that keep only their session id, and faults of the WebSocket itself always use WebSockets.
    #[arg(long, value_name = "NAME")]
    transport: Option<Transport>,
    /// Number of runs of each fault.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Additional seconds for which publishers continue after each fault.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Seed of the first run. Each further run adds one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leaves scopes without a subscriber on some instances. These instances cannot know what Redis loses of them.
    #[arg(long)]
    scattered: bool,
    /// Expects an anomaly of this kind (repeatable). Succeeds at the first run that shows one of the expected kinds.
    #[arg(long, value_name = "KIND")]
    expect: Vec<String>,
    /// Prints one JSON object per run instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct FleetArgs {
    /// The gateway binary under test.
    #[arg(long, value_name = "FILE")]
    gateway: PathBuf,
    /// The history-checker binary.
    #[arg(long, value_name = "FILE")]
    checker: PathBuf,
    /// Directory in which logs are written.
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    directory: PathBuf,
    /// Runs only these trials. Default: all trials of this length.
    #[arg(long = "trial", value_name = "NAME")]
    trials: Vec<Trial>,
    /// Size and duration of the trials.
    #[arg(long, default_value = "long")]
    length: Length,
    /// Seed of every trial.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Expects the check with this name to fail (repeatable). Succeeds if one of the expected checks fails.
    #[arg(long, value_name = "CHECK")]
    expect: Vec<String>,
}

/// Makes the path absolute, because servers that receive it run in another directory.
fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => runs(args).await,
        Command::Fleet(args) => trials(args).await,
        Command::Supervise { parent, program } => {
            let Some((program, args)) = program.split_first() else { return ExitCode::from(64) };
            eprintln!("chaos: {}", test_support::process::supervise(parent, program, args));
            ExitCode::FAILURE
        }
    }
}

async fn runs(args: RunArgs) -> ExitCode {
    let faults = if args.faults.is_empty() { Fault::value_variants().to_vec() } else { args.faults };
    let RunArgs { gateway, checker, haproxy, directory, .. } = args;
    if let Some(missing) = [&gateway, &checker].into_iter().find(|program| !program.is_file()) {
        eprintln!("chaos: there is no {}", missing.display());
        return ExitCode::FAILURE;
    }
    let longer = Duration::from_secs(args.seconds);
    let environment = Environment { gateway, checker, haproxy, directory, longer, scattered: args.scattered };
    let mut outcomes = Vec::new();
    for round in 0..args.runs {
        for fault in &faults {
            let seed = args.seed + round;
            let (via, transport) = (fault.via(args.via, seed), fault.transport(args.transport, seed));
            let case = Case { fault: *fault, via, transport, seed };
            let outcome = tokio::select! {
                outcome = run(&environment, case)  => outcome,
                // Dropping the run ends its processes and removes its network rules.
                _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
            };
            print_outcome(&outcome, args.json);
            if let Some(kind) = outcome.shows(&args.expect) {
                println!("CAUGHT as {kind} in run {}", outcomes.len() + 1);
                return ExitCode::SUCCESS;
            }
            outcomes.push(outcome);
        }
    }
    if !args.json {
        print!("\n{}", table::table(&outcomes));
    }
    if !args.expect.is_empty() {
        return ExitCode::FAILURE;
    }
    let is_good = outcomes.iter().all(|outcome| outcome.is_good() || outcome.is_impossible);
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn trials(args: FleetArgs) -> ExitCode {
    let FleetArgs { gateway, checker, directory, trials, length, seed, expect } = args;
    // The fleet runs without HAProxy: its clients retry on other instances themselves.
    let haproxy = PathBuf::from("haproxy");
    let environment = Environment { gateway, checker, haproxy, directory, longer: Duration::ZERO, scattered: false };
    let reports = tokio::select! {
        reports = fleet::run(&environment, &trials, length, seed) => reports,
        // Dropping the run ends its processes.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    for (trial, report) in &reports {
        match report {
            Ok(report) => println!("\n{}", report.table()),
            Err(failure) => println!("\n{trial:?} FAILED: {failure}"),
        }
    }
    let mut reports = reports.into_iter().map(|(_, report)| report);
    if !expect.is_empty() {
        let found = reports.flatten().find_map(|report| report.shows(&expect));
        found.inspect(|check| println!("CAUGHT as {check}"));
        return if found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let is_good = reports.all(|report| report.is_ok_and(|report| report.is_good()));
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_outcome(outcome: &RunOutcome, as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string(outcome).expect("an outcome is texts and numbers"));
        return;
    }
    let word = match outcome {
        _ if outcome.is_good() => "clean",
        _ if outcome.is_impossible => "NOT INJECTED",
        _ => "FAILED",
    };
    let proof = outcome.proof.as_ref().unwrap_or_else(|why| why);
    println!("{} {} {} {}: {word}; {proof}", outcome.fault, outcome.via, outcome.transport, outcome.seed);
    if let Some(verdict) = outcome.verdict.as_ref().filter(|_| !outcome.is_good()) {
        println!("{verdict}  the log: {}", outcome.log.display());
        outcome.ownership.breaches.iter().for_each(|breach| println!("  {}: {}", breach.kind, breach.detail));
    }
}
