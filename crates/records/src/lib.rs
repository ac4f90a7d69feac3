//! What is written about messages, beside their way: dead letters, and receipts.
//!
//! ```text
//!   pump   ─ what cannot be delivered or stored ─▶ DeadLetterQueue ─▶ ┌──────────────┐ ═▶ Store    (memory or Redis)
//!   shards ─ how far clients have got ───────────▶ ReceiptBuffer   ─▶ │ RecordWriter │    ║
//!                                                  (bounded,          └──────────────┘    ╠═▶ tidegate dlq
//!                                                   never wait)        (one task)         ╚═▶ tidegate receipts
//! ```
//!
//! The three types that matter: [`DeadLetter`], a message that reached nobody, and why; [`Receipt`], how far a user has got
//! in a scope; [`Store`], where both are kept for all instances. Any thread leaves them in [`DeadLetterQueue`] and [`ReceiptBuffer`]
//! without waiting, and [`RecordWriter`] carries them from there, on a thread that no message passes.
//!
//! This crate does not know about sockets, sessions or subscriptions, and decides nothing about a message.
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
