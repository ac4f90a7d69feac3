//! What Redis names mean: every key and channel, and every function that touches them. The other dictionary.
//!
//! ```text
//!   wire::Scope ──▶ Keyspace ──▶ tidegate:{acme/user:42}          channel   messages as they come
//!                           ├──▶ tidegate:{acme/user:42}:stream   stream    what is kept of it
//!                           └──▶ tidegate:{acme/user:42}:meta     hash      generation and count
//!   families' retention ──▶ Library ──▶ FUNCTION LOAD ──▶ FCALL tidegate_publish, tidegate_read, …
//! ```
//!
//! The three types that matter: [`Keyspace`] builds names; [`Library`] is the text of the one Redis Function
//! library; [`Function`] is a typed handle to one function of it. `docs/redis.md` shows [`Keyspace::footprint`],
//! and a test holds the two together.
//!
//! This crate does not talk to Redis. It contains no `async`. No other crate contains a Redis name or Lua.
#![warn(missing_docs)]

mod dead_letters;
mod directory;
mod footprint;
mod names;
mod presence;
mod receipts;
mod registry;
mod restores;
mod script;
mod slot;

pub use footprint::Footprint;
pub use names::Keyspace;
pub use script::{Function, ID_WINDOW_MS, Library, Loaded};
pub use slot::Slot;
