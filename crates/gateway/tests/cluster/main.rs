//! Several gateways in one process, real sockets, a real Redis: what only the whole can show.

mod cli;
mod client;
mod dial;
mod event_stream;
mod fleet;
mod frames;
mod metrics;
mod process;
mod proxy;
mod raw;
#[macro_use]
mod receiver;

mod bad_input;
#[cfg(target_os = "linux")]
mod churn;
mod closing;
mod dead_letters;
mod delivery;
mod drain;
mod expiry;
mod families;
mod fenced;
mod flood;
#[cfg(target_os = "linux")]
mod frozen;
mod half_open;
mod hostile;
mod interrupted;
mod isolation;
mod limits;
mod log;
mod outage;
mod pings;
mod presence;
mod rebalance;
mod receipts;
mod reload;
mod restore;
mod revocation;
mod round_trip;
mod send;
mod signals;
mod slow_reader;
mod stalled;
