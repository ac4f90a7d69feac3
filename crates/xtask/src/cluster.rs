//! `cargo xtask cluster`: Redis, three gateways and HAProxy on this machine's loopback.
//!
//! ```text
//!   browser ─▶ HAProxy ─▶ gateway1 ─┐
//!              (shipped    gateway2 ─┼─▶ Redis
//!               file)      gateway3 ─┘
//! ```
//!
//! The cluster exists so that you can kill an instance: when a child exits, the exit is printed and the others
//! continue. When this process ends, by Ctrl-C or by `kill -9`, the [`test_support::ProcessSupervisor`] ends every
//! child.

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

/// Interval between two checks whether the children still run.
const TICK: Duration = Duration::from_millis(200);

/// Starts the cluster, prints the instructions, and runs until a signal stops it.
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

/// Returns a flag that the first signal sets. The second signal ends this process at once, and the process supervisor
/// ends the children.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
