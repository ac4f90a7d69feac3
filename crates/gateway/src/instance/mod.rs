//! One instance: its threads, its start, its drain, and the rebalancing of its clients.

mod backend;
mod drain;
mod edge_thread;
mod fleet;
pub(crate) mod gateway;
mod rebalance;
