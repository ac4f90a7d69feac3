//! One instance: its threads, its start, and its end.

mod drain;
mod edge_thread;
mod fleet;
pub(crate) mod gateway;
mod rebalance;
