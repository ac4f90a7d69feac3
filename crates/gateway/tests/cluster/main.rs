//! Several gateways in one process, real sockets, a real Redis: what only the whole can show.

mod client;
mod dial;
mod fleet;

mod bad_input;
mod delivery;
mod flood;
mod outage;
mod slow_reader;
