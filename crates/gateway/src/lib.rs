//! The gateway: sockets in, sockets out.

#[doc(hidden)]
pub mod codec;
pub mod config;
pub mod issuer;
mod edge;
mod handshake;
mod handoff;
mod connection;
mod session;
mod hub;
mod pump;
mod mailbox;
mod outbox;
mod socket;
mod token;
mod grants;
mod rules;
mod rate;
mod clock;
mod counters;
mod health;
mod admin;
mod metrics;
