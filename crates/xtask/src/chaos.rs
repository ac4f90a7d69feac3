//! `cargo xtask chaos`: injects every known fault into a real cluster and checks what clients received.
//!
//! ```text
//!   build release ─▶ `chaos run`      one row for each fault and transport, directly and through HAProxy
//!                 ─▶ `chaos fleet`    storms, rolling restarts, limits and an idle fleet, in figures
//!   lane haproxy  ─▶ the fleet behind HAProxy, also without Redis
//!   --mutants     ─▶ mutants          builds with planted bugs, each of which must be caught
//!   simulation    ─▶ `cargo test`     the same faults with seeds and virtual time, for longer than in the tests
//! ```

mod mutants;

use std::path::PathBuf;

use crate::failure::Failure;
use crate::haproxy;
use crate::package;
use crate::program;
use crate::step::Step;
use crate::workspace;

/// The faults that `cargo xtask test` injects, beside runs without a fault. They demand most of the product and take
/// about three minutes. Each fault runs once: half of the runs go through HAProxy, and in half of the runs clients
/// receive over event streams.
const TESTED: [(&str, &str, &[&str]); 4] = [
    (
        "direct",
        "websocket",
        &["none", "restart-aof", "failback", "sentinel-kill", "packet-loss", "clock-gateway", "slow-readers"],
    ),
    (
        "direct",
        "sse",
        &[
            "restart-empty",
            "failover-clean",
            "flushall",
            "function-flush",
            "output-buffer",
            "stuck-subscriber",
            "stop-redis",
        ],
    ),
    (
        "haproxy",
        "websocket",
        &["restart-older", "sentinel-stale", "one-way", "cut-local", "partition-receive", "two-sockets"],
    ),
    ("haproxy", "sse", &["none", "failover-lost", "kill-pubsub", "readonly", "kill-gateway", "drain"]),
];
/// Rounds of all faults when `--runs` is not given: each transport, directly and through HAProxy.
const RUNS: &str = "4";

/// The programs of one build that the runs use.
struct Programs {
    chaos: PathBuf,
    gateway: PathBuf,
    checker: PathBuf,
}

impl Programs {
    fn build(is_release: bool) -> Result<Self, Failure> {
        package::ensure(&[package::REDIS, package::HAPROXY, package::NFT, package::IP, package::FAKETIME])?;
        let mut args =
            vec!["build", "--package", "tidegate-gateway", "--package", "chaos", "--package", "history-checker"];
        args.extend(is_release.then_some("--release"));
        Step::cargo(&args).run()?;
        let directory = workspace::target().join(if is_release { "release" } else { "debug" });
        Ok(Self {
            chaos: directory.join("chaos"),
            gateway: directory.join("tidegate"),
            checker: directory.join("history-checker"),
        })
    }

    fn run(&self) -> Step {
        let haproxy = program::find(package::HAPROXY.program).unwrap_or_else(|| package::HAPROXY.program.into());
        self.command("run").args(["--haproxy"]).args([haproxy])
    }

    fn fleet(&self) -> Step {
        self.command("fleet")
    }

    fn command(&self, name: &str) -> Step {
        let directory = workspace::target().join("chaos");
        Step::new(&self.chaos)
            .args([name, "--gateway"])
            .args([&self.gateway])
            .args(["--checker"])
            .args([&self.checker])
            .args(["--directory"])
            .args([directory])
    }
}

/// Runs `cargo xtask chaos` with these arguments.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if let Some(at) = args.iter().position(|arg| arg == "--mutants") {
        let others: Vec<&String> =
            args.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, arg)| arg).collect();
        return mutants::run(&Programs::build(false)?, &others);
    }
    let programs = Programs::build(true)?;
    if let Some(("--fleet", others)) = args.split_first().map(|(first, others)| (first.as_str(), others)) {
        return programs.fleet().args(others).run();
    }
    let names_a_run = args.iter().any(|arg| arg.starts_with("--runs"));
    let runs = if names_a_run { &[][..] } else { &["--runs", RUNS][..] };
    let broken = programs.run().args(runs).args(args).run();
    // With `--fault`, only that fault runs.
    if args.iter().any(|arg| arg.starts_with("--fault")) {
        return broken;
    }
    let simulated = simulate();
    let fleet_result = programs.fleet().run();
    // Gateways behind HAProxy are frozen, drained and killed, and the whole fleet loses Redis. HAProxy must close no
    // socket.
    let balanced = haproxy::run();
    broken.and(simulated).and(fleet_result).and(balanced)
}

/// Runs the simulation. `cargo test` also passes if no test matches the name, so the source file is checked first.
fn simulate() -> Result<(), Failure> {
    let source = workspace::root().join("crates/gateway/src/simulation/mod.rs");
    if !source.is_file() {
        return Err(Failure::new(format!("NOT SIMULATED: there is no {}", source.display())));
    }
    Step::cargo(&["test", "--release", "--package", "tidegate-gateway", "--lib", "simulation"])
        .env("TIDEGATE_SIMULATION_SEEDS", "2000")
        .run()
}

/// The lane of `cargo xtask test`: each chosen fault once, and the short trials of the fleet, with the binaries of the
/// other lanes.
pub(crate) fn lane() -> Result<(), Failure> {
    let programs = Programs::build(false)?;
    for (way, transport, faults) in TESTED {
        println!("faults over {transport}, {way}: {}", faults.join(", "));
        let faults = faults.iter().flat_map(|fault| ["--fault", fault]);
        programs.run().args(["--via", way, "--transport", transport]).args(faults).run()?;
    }
    programs.fleet().args(["--length", "short"]).run()
}
