//! The command line of `cargo xtask`. Without arguments it prints the commands.
//!
//! ```text
//!   main ─▶ lane     test: each lane installs what it needs, runs, and is one row of the table
//!        ─▶ cluster  Redis + three gateways + HAProxy on free loopback ports
//!        ─▶ tidy     the rules of this repository; each rule is a function over source text
//!        ─▶ chaos    faults in a real cluster, checked from outside
//!        ─▶ observe  the shipped rules and dashboards beside a live cluster
//!        ─▶ bench    release builds, then the load generator's own benchmark
//! ```
//!
//! This crate does not depend on the gateway. It starts programs and reads source text.

mod chaos;
mod cluster;
mod failure;
mod haproxy;
mod http;
mod lane;
mod npm;
mod observe;
mod package;
mod program;
mod python;
mod socket;
mod step;
mod supply_chain;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::step::Step;

const HELP: &str = "\
Usage: cargo xtask <command>

  test [--only LANE]...   run all lanes, or only the named ones; install missing programs, or print the names of their
                          packages
  cluster                 start Redis, three gateways and HAProxy on free loopback ports; Ctrl-C stops all of them
  bench [ARGS]...         make production builds and run `loadtest bench` with ARGS; print each measured figure beside its
                          budget
  chaos [ARGS]...         run each fault N times (--runs N) in a real cluster and check what clients received; then run
                          the long simulation, the trials of a fleet of 10,000 clients, and a fleet behind HAProxy
                            --fault NAME          only this fault
                            --transport NAME      only this transport: websocket or sse
                            --seconds S           S more seconds of load after each fault
                            --fleet               only the trials of the fleet
                            --mutants [WORD]...   plant bugs instead, and check that each bug is caught
  observe                 check the alerts and dashboards of deploy/, beside a live cluster with faults
  tidy                    check only the rules of this repository; takes about a second
  deny                    check the licences and sources of all dependencies, duplicates and banned crates (deny.toml)
  sbom                    write the components of the shipped binary to target/tidegate.cdx.json (CycloneDX)
  dist                    build the binary as it is shipped: target/dist/tidegate, its debug information beside it
  help                    show this text

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
    // `chaos --help` must print this help, not start a run of an hour.
    if rest.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help")) {
        print_help();
        return Ok(());
    }
    match command.as_str() {
        "test" => lane::run(&lane::select(rest)?),
        "cluster" => no_arguments(command, rest).and_then(|()| cluster::run()),
        "bench" => bench(rest),
        "chaos" => chaos::run(rest),
        "observe" => no_arguments(command, rest).and_then(|()| observe::run(observe::Length::Full)),
        "tidy" => no_arguments(command, rest).and_then(|()| tidy::run()),
        "deny" => no_arguments(command, rest).and_then(|()| supply_chain::deny()),
        "sbom" => no_arguments(command, rest).and_then(|()| supply_chain::sbom()),
        "dist" => no_arguments(command, rest).and_then(|()| supply_chain::dist()),
        "help" | "-h" | "--help" => {
            print_help();
            Ok(())
        }
        unknown => Err(Failure::new(format!(
            "no command `{unknown}`; there are test, cluster, bench, chaos, observe, tidy, deny, sbom, dist and help"
        ))),
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
    // The gateway is built before the benchmark starts. Compiling at the same time would distort the figures.
    Step::cargo(&["build", "--profile", "production", "--package", "tidegate-gateway"]).run()?;
    Step::cargo(&["run", "--profile", "production", "--package", "loadtest", "--", "bench"]).args(args).run()
}
