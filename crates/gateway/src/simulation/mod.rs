//! Simulates a whole cluster in one thread: the pure parts of several instances, Redis, clients, and faults.
//!
//! ```text
//!   Client ◀═ bytes ═ Shard ◀─ Pump, Router ◀═ pushes, answers ═ redis-model: two nodes
//!     │   ═ frames ═▶ Session ─▶    │       ═ calls ═▶              │ what is stored
//!     ▼                             └ each path has a delay         ▼
//!   View ───────────────── every frame is compared with ───────── PublishLog
//! ```
//!
//! Time is virtual, and one seed determines everything: delays, actions and faults. A failed run can therefore be
//! repeated. Pump, router, shards and sessions are the product's own. Sockets, connections to Redis and Redis itself
//! are models; tests compare `redis-model` with a real Redis.
//!
//! [`view`] has the rules, which are checked for each frame and at the end: no message twice, none out of order, no
//! missing message without a `gap`, no `gap` without a missing message, no message that was never stored, and every
//! expected message when the run becomes quiet.
//!
//! ```text
//!   TIDEGATE_SIMULATION_SEEDS=1000 cargo test --release -p tidegate-gateway --lib simulation   seeds 1 to 1000
//!   TIDEGATE_SIMULATION_OUTBOX=4096 …                              small outboxes: clients often fall behind
//!   TIDEGATE_SIMULATION_SEED=17 cargo test -p tidegate-gateway --lib simulation                seed 17, with its log
//! ```

mod backend;
mod client;
mod conversation;
mod event_stream;
mod fault;
mod frames;
mod instance;
mod link;
mod links;
mod losses;
mod plan;
mod publish_log;
mod random;
mod redis;
mod registry;
mod restoring;
mod schedule;
mod sockets;
mod steps;
mod tally;
#[cfg(test)]
mod tests;
mod view;
mod world;

use std::cell::Cell;

use plan::Mutant;
use tally::Tally;
use world::World;

use crate::host::clock::Now;

thread_local! {
    static NOW: Cell<Now> = const { Cell::new(Now { mono_ms: 0, unix_ms: 0 }) };
}

/// The time of the simulation that runs on this thread.
fn virtual_now() -> Now {
    NOW.get()
}

fn set_virtual_now(now: Now) {
    NOW.set(now);
}

/// The parameters of a run besides its seed.
#[derive(Debug, Clone, Copy)]
struct Options {
    mutant: Option<Mutant>,
    /// Limit of unsent data per client, in bytes. `None` lets the seed decide.
    outbox_bytes_max: Option<usize>,
}

/// Runs one seed. Returns its tally, the first anomaly, and its log.
fn run(seed: u64, options: Options, is_logged: bool) -> (Tally, Option<String>, Vec<String>) {
    let mut world = World::new(seed, options, is_logged);
    // Input from a network must never cause a panic, so a panic is an anomaly.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let anomaly = outcome.unwrap_or_else(|_| Some("it panicked; the message is above".to_owned()));
    (world.tally, anomaly, world.log.unwrap_or_default())
}
