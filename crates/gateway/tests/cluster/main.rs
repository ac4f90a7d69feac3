//! Several gateways in one process, real sockets, a real Redis: what only the whole can show.

mod client;
mod fleet;
#[path = "../../../keyspace/tests/support/redis_server.rs"]
mod redis_server;

mod bad_input;
mod delivery;
mod outage;
mod slow_reader;
