//! The gateway: sockets in, sockets out.

#[doc(hidden)]
pub mod codec;
mod handoff;
mod counters;
mod token;
mod grants;
pub mod config;
mod handshake;
mod edge;
mod admin;
mod metrics;
