//! Measures a gateway against its budgets, beside a bare `write(2)` loop in the same run.
//!
//! ```text
//!   clients' cores                                             │ the server's core
//!   Publisher ── FCALL ─▶ Redis ───────────────────────────────┼─▶ gateway ──┐ frames
//!    Tally ◀─ Clients (1,000 to 18,000 sockets, one epoll) ◀────┼─────────────┤ in turn
//!                                                              │ write loop ─┘ the same bytes
//! ```
//!
//! The three main types are [`scenario::Scenario`], one row of the budget table; [`delivery_tally::DeliveryTally`],
//! which counts every expected delivery; and [`report::BudgetRow`], a figure beside its limit.
//!
//! This crate is not a test. It prints a figure that misses its budget. The run fails only if a delivery is missing,
//! duplicated or out of order. `README.md` explains what each figure means and what it does not mean.
#![cfg(target_os = "linux")]

mod scenario;

mod cores;
mod harness;
mod machine;
mod process;

mod baseline;
mod publish_load;
mod publisher;
mod send_times;
mod tick;

mod clients;
mod delivery_tally;
mod event_walker;
mod frame_walker;
mod latencies;
mod usage;
mod window;

mod failure;
mod report;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use cores::{Cores, pin_this_thread};
use failure::Failure;
use machine::Machine;
use scenario::{Scenario, Setting, Sizes};

#[derive(Parser)]
#[command(name = "loadtest", version, about = "Measures a gateway against its budgets")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the rows of the budget table and print each figure beside its limit.
    Bench(BenchArgs),
    /// Run PROGRAM on the given cores, and end it when the bench ends. Used by the bench itself.
    #[command(hide = true)]
    Supervise {
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(long)]
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Write the same bytes to many sockets and do nothing else. Used by the bench itself.
    #[command(hide = true, name = baseline::WRITE_LOOP)]
    WriteLoop {
        #[arg(long)]
        sockets: usize,
    },
    /// Write the same bytes to one socket for each message from Redis. Used by the bench itself.
    #[command(hide = true, name = baseline::RELAY)]
    Relay {
        #[arg(long)]
        sockets: usize,
        #[arg(long)]
        redis: SocketAddr,
        #[arg(long)]
        stem: String,
    },
}

#[derive(Args)]
struct BenchArgs {
    /// Rows to measure, numbered as in the budget table. Default: all rows. Rows 5 and 9 are measured with row 4.
    #[arg(long = "row")]
    rows: Vec<Scenario>,
    /// Run a smaller and shorter bench. It shows that the bench works; its figures are not valid results.
    #[arg(long)]
    quick: bool,
    /// Gateway binary to measure.
    #[arg(long, default_value = "target/production/tidegate")]
    gateway: PathBuf,
    /// Receivers of the shared messages in rows 1, 3, 8 and 10.
    #[arg(long, default_value_t = 1_000)]
    receivers: usize,
    /// Scopes with one receiver each in row 2.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    scopes: u32,
    /// Messages per publish call in row 3.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    batch: u64,
    /// Idle connections in rows 4 and 11. Default: 10,000, or 2,000 with --quick.
    #[arg(long)]
    connections: Option<usize>,
    /// Number of readers that stop reading in row 8. Default: 1,000, or 200 with --quick.
    #[arg(long)]
    stopped: Option<usize>,
}

/// Parses the command line and runs the command.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench(&args),
        Command::Supervise { cores, parent, program, args } => Err(process::supervise(&cores, parent, &program, &args)),
        Command::WriteLoop { sockets } => baseline::serve_write_loop(sockets),
        Command::Relay { sockets, redis, stem } => baseline::serve_relay(sockets, redis, &stem),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let cores = Cores::divide()?;
    let gateway = args.gateway.canonicalize().map_err(Failure::io(format!(
        "{} (build it with: cargo build --profile production)",
        args.gateway.display()
    )))?;
    println!("{}\n", Machine::look(cores.clone(), &gateway));
    pin_this_thread(&cores.clients)?;
    let setting = Setting { cores, gateway, sizes: sizes(args) };
    let wanted = Scenario::ALL.into_iter().filter(|row| args.rows.is_empty() || args.rows.contains(row));
    let mut rows = Vec::new();
    for scenario in wanted {
        rows.extend(scenario.run(&setting)?);
    }
    println!("{}", report::table(&rows));
    Ok(())
}

fn sizes(args: &BenchArgs) -> Sizes {
    let (pairs, window, step, settle, connections, stopped) = match args.quick {
        false => (5, 4, 4, 12, 10_000, 1_000),
        true => (3, 1, 1, 2, 2_000, 200),
    };
    Sizes {
        receivers: args.receivers,
        scopes: args.scopes as usize,
        pairs,
        window: Duration::from_secs(window),
        step: Duration::from_secs(step),
        batch: args.batch,
        connections: args.connections.unwrap_or(connections),
        settle: Duration::from_secs(settle),
        stopped: args.stopped.unwrap_or(stopped),
    }
}
