//! Records about messages, kept beside their delivery: dead letters and receipts.
//!
//! ```text
//!   pump   ─ messages not delivered or stored ─▶ DeadLetterQueue ─▶ ┌──────────────┐ ═▶ Store    (memory or Redis)
//!   shards ─ receipts of clients ──────────────▶ ReceiptBuffer   ─▶ │ RecordWriter │    ║
//!                                                (bounded,          └──────────────┘    ╠═▶ tidegate dlq
//!                                                 no waiting)        (one task)         ╚═▶ tidegate receipts
//! ```
//!
//! The three types that matter: [`DeadLetter`] is a message that could not be delivered or stored, with the reason.
//! [`Receipt`] says how far a user has acknowledged a scope. [`Store`] keeps both for all instances. Any thread adds
//! them to [`DeadLetterQueue`] and [`ReceiptBuffer`] without waiting, and [`RecordWriter`] writes them to the store, on
//! a thread that carries no messages.
//!
//! This crate knows no sockets, sessions or subscriptions, and decides nothing about a message.
#![warn(missing_docs)]

mod dead_letter;
mod dead_letter_queue;
mod error;
mod receipt;
mod receipt_buffer;
mod store;
mod writer;

pub use dead_letter::{BadDeadLetterId, Body, DeadLetter, DeadLetterId, Reason, StoredDeadLetter};
pub use dead_letter_queue::{DeadLetterCounts, DeadLetterQueue, DeadLetterQueueConfig};
pub use error::StoreError;
pub use receipt::{Acknowledged, Lag, Receipt, ScopeReceipts};
pub use receipt_buffer::{ReceiptBuffer, ReceiptCounts};
pub use redis_topology::Loading;
pub use store::{Bounds, EitherStore, MemoryStore, RedisStore, RedisStoreConfig, ReplayError, Store};
pub use writer::RecordWriter;
