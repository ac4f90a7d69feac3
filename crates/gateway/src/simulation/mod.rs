//! A whole cluster in one thread: the thinking parts of several instances, Redis, clients, and what goes wrong.
//!
//! ```text
//!   Client ◀═ bytes ═ Shard ◀─ Pump, Router ◀═ pushes, answers ═ redis-model: two nodes
//!     │   ═ frames ═▶ Session ─▶    │       ═ calls ═▶              │ what is stored
//!     ▼                             └ each way takes its time       ▼
//!   View ───────────────── every frame is compared with ───────── PublishLog
//! ```
//!
//! Time is virtual, and one seed decides everything: what is on its way for how long, who does what, what breaks. So a
//! run that fails can be run again. Pump, router, shards and sessions are the product's own; sockets, connections to
//! Redis and Redis itself are models (`redis-model` is held against the real one).
//!
//! What must hold, frame by frame and at the end, is in [`view`]: no message twice, none out of order, no hole without a
//! `gap`, no `gap` without a hole, nothing that was never stored, and everything that is owed when all is quiet.
//!
//! ```text
//!   TIDEGATE_SIMULATION_SEEDS=1000 cargo test --release -p tidegate-gateway --lib simulation   seeds 1 to 1000
//!   TIDEGATE_SIMULATION_OUTBOX=4096 …                              small outboxes: clients fall behind all the time
//!   TIDEGATE_SIMULATION_SEED=17 cargo test -p tidegate-gateway --lib simulation                seed 17, with its story
//! ```

mod backend;
mod client;
mod conversation;
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

/// What a run is besides its seed.
#[derive(Debug, Clone, Copy)]
struct Options {
    mutant: Option<Mutant>,
    /// What may wait for a client whose socket takes nothing, unless the seed decides.
    outbox_bytes_max: Option<usize>,
}

/// Runs one seed. Returns what it met, and what must not be.
fn run(seed: u64, options: Options, is_logged: bool) -> (Tally, Option<String>, Vec<String>) {
    let mut world = World::new(seed, options, is_logged);
    // Input from a network never reaches a panic: one is an anomaly as any other.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let anomaly = outcome.unwrap_or_else(|_| Some("it panicked, as said above".to_owned()));
    (world.tally, anomaly, world.log.unwrap_or_default())
}
