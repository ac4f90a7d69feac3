//! What is written about messages, beside their way: dead letters, and receipts.
//!
//! ```text
//!   pump   ─ what cannot be delivered or stored ─▶ Letterbox ─▶ ┌──────────┐ ═▶ Store    (memory or Redis)
//!   shards ─ how far clients have got ───────────▶ Ledger    ─▶ │ Recorder │    ║
//!                                                  (bounded,    └──────────┘    ╠═▶ tidegate dlq
//!                                                   never wait)  (one task)     ╚═▶ tidegate receipts
//! ```
//!
//! The three types that matter: [`Letter`], a message that reached nobody, and why; [`Receipt`], how far a user has got
//! in a scope; [`Store`], where both are kept for all instances. Any thread leaves them in [`Letterbox`] and [`Ledger`]
//! without waiting, and [`Recorder`] carries them from there, on a thread that no message passes.
//!
//! This crate does not know about sockets, sessions or subscriptions, and decides nothing about a message.
#![warn(missing_docs)]

mod error;
mod ledger;
mod letter;
mod letterbox;
mod receipt;
mod recorder;
mod store;

pub use error::StoreError;
pub use ledger::{Ledger, ReceiptCounts};
pub use letter::{BadLetterId, Body, KeptLetter, Letter, LetterId, Reason};
pub use letterbox::{LetterCounts, Letterbox, LetterboxConfig};
pub use receipt::{Behind, Got, Receipt, Standing};
pub use recorder::Recorder;
pub use redis_topology::Loading;
pub use store::{Bounds, EitherStore, MemoryStore, RedisStore, RedisStoreConfig, ReplayError, Store};
