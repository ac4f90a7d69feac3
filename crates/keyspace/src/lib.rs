//! All names in Redis: every key and channel, and every function that uses them.
//!
//! ```text
//!   wire::Scope ──▶ Keyspace ──▶ tidegate:{acme/user:42}          channel   messages as they are published
//!                           ├──▶ tidegate:{acme/user:42}:stream   stream    the kept messages
//!                           └──▶ tidegate:{acme/user:42}:meta     hash      generation and newest offset
//!   families' retention ──▶ Library ──▶ FUNCTION LOAD ──▶ FCALL tidegate_publish, tidegate_read, …
//! ```
//!
//! The types that matter: [`Keyspace`] builds names. [`Library`] is the text of the one Redis function library.
//! [`Function`] describes how one function of it is called. [`PublishCall`] is the call that every publisher makes.
//! `docs/redis.md` shows [`Keyspace::footprint`], and a test compares the two.
//!
//! This crate does not talk to Redis and contains no `async`. No other crate of the product contains Redis
//! names or Lua.
#![warn(missing_docs)]

mod dead_letters;
mod directory;
mod footprint;
mod names;
mod presence;
mod publish_call;
mod receipts;
mod registry;
mod restores;
mod revocations;
mod script;
mod slot;

pub use footprint::Footprint;
pub use names::Keyspace;
pub use publish_call::{Placed, PublishCall, PublishItem, ReplyPart};
pub use script::{DEPTH_MAX, EXACT_ENTRIES_MAX, Function, ID_WINDOW_MS, Library, Loaded, UNKNOWN_FAMILY};
pub use slot::Slot;
