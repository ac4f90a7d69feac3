//! TLS on the main port: all that the cluster's tests show, and what only TLS can break.

#[path = "../cluster/client.rs"]
mod client;
mod dial;
#[path = "../cluster/event_stream.rs"]
mod event_stream;
#[path = "../cluster/fleet.rs"]
mod fleet;
#[path = "../cluster/raw.rs"]
mod raw;
#[macro_use]
#[path = "../cluster/receiver.rs"]
mod receiver;

#[path = "../cluster/bad_input.rs"]
mod bad_input;
#[path = "../cluster/closing.rs"]
mod closing;
#[path = "../cluster/delivery.rs"]
mod delivery;
#[path = "../cluster/flood.rs"]
mod flood;
#[path = "../cluster/outage.rs"]
mod outage;
#[path = "../cluster/slow_reader.rs"]
mod slow_reader;

mod ending;
mod first_bytes;
mod handshake;
mod large;
mod redis;
mod split;
