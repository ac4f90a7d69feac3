//! `cargo xtask cluster`: Redis, three gateways and HAProxy on this machine's loopback.
//!
//! ```text
//!   browser ─▶ HAProxy ─▶ gateway1 ─┐
//!              (shipped    gateway2 ─┼─▶ Redis
//!               file)      gateway3 ─┘
//! ```
//!
//! Killing an instance is what the cluster is for, so a child that dies is told and the rest goes on. When we end, by
//! Ctrl-C or by `kill -9`, the [`test_support::ProcessSupervisor`] ends every child.

mod fleet;
mod instructions;
mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, workspace};

pub(crate) use fleet::Fleet;

/// How often children are asked whether they live.
const TICK: Duration = Duration::from_millis(200);

/// Starts the cluster, says where to look, and stays until it is told to end.
pub(crate) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS, package::HAPROXY])?;
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    let binary = workspace::target().join("release/tidegate");
    let stop = stop_on_signals().map_err(Failure::during("catching Ctrl-C"))?;
    let mut fleet = Fleet::start(&binary, &workspace::target().join("cluster"), &[], &stop)?;
    print!("{}", instructions::text(&fleet, &binary));
    while !stop.load(Ordering::Relaxed) {
        for (name, status) in fleet.exited() {
            println!("{name} ended ({status})");
        }
        thread::sleep(TICK);
    }
    println!("\nending the cluster");
    fleet.end();
    Ok(())
}

/// A flag that the first signal raises. The second one ends us at once, and the process supervisor sees to the children.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
