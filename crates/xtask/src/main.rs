//! What a person types: `cargo xtask` alone prints the commands.
//!
//! ```text
//!   main ─▶ lane     test: each lane brings its needs, runs, and is told in one table
//!        ─▶ cluster  Redis + three gateways + HAProxy on free loopback ports
//!        ─▶ tidy     the rules of this repository, each one a function over source text
//!        ─▶ chaos    faults in a real cluster, judged from outside
//!        ─▶ bench    release builds, then the load generator's own benchmark
//! ```
//!
//! This crate does not know the gateway: it starts programs and reads source text.

mod chaos;
mod cluster;
mod failure;
mod haproxy;
mod http;
mod lane;
mod npm;
mod package;
mod program;
mod python;
mod socket;
mod step;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::step::Step;

const HELP: &str = "\
Usage: cargo xtask <command>

  test [--only LANE]...   run every test, or only the named lanes; installs what is missing by package name
  cluster                 Redis, three gateways and HAProxy on free loopback ports; Ctrl-C ends all of it
  bench [ARGS]...         release builds, then `loadtest bench` with ARGS: prints the budgets beside what was measured
  chaos [ARGS]...         breaks a real cluster in every way, --runs N times each, and judges what was received; then the
                          long run of the simulation, a fleet of 10,000 clients in figures, and a fleet behind HAProxy.
                          --fault NAME for one fault, --transport websocket or sse for one transport, --seconds S for
                          longer load, --fleet for the figures alone;
                          --mutants [WORD]... plants bugs instead, each of which must be caught
  tidy                    the rules of this repository alone, in a second
  help                    this text

Lanes of `test`, in order:
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = args.split_first() else {
        print_help();
        return Ok(());
    };
    // Whoever asks what `chaos` does has not asked for an hour of it.
    if rest.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help")) {
        print_help();
        return Ok(());
    }
    match command.as_str() {
        "test" => lane::run(&lane::select(rest)?),
        "cluster" => no_arguments(command, rest).and_then(|()| cluster::run()),
        "bench" => bench(rest),
        "chaos" => chaos::run(rest),
        "tidy" => no_arguments(command, rest).and_then(|()| tidy::run()),
        "help" | "-h" | "--help" => {
            print_help();
            Ok(())
        }
        unknown => {
            Err(Failure::new(format!("no command `{unknown}`; there are test, cluster, bench, chaos, tidy and help")))
        }
    }
}

fn print_help() {
    print!("{HELP}");
    for lane in lane::LANES {
        println!("  {:<10} {}", lane.name, lane.about);
    }
}

fn no_arguments(command: &str, rest: &[String]) -> Result<(), Failure> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(Failure::new(format!("`{command}` takes no arguments, and `{extra}` was given"))),
    }
}

fn bench(args: &[String]) -> Result<(), Failure> {
    package::ensure(&[package::REDIS])?;
    // The gateway first: a benchmark of a binary that is being compiled beside it measures the compiler.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    Step::cargo(&["run", "--release", "--package", "loadtest", "--", "bench"]).args(args).run()
}
