//! Dead letters and receipts: two kinds of records about messages, in one store.
//!
//! ```text
//!   dispatch ─ what cannot be delivered or stored ─▶ DeadLetterQueue ─▶ ┌──────────────┐ ═▶ Store    (memory or Redis)
//!   shards ─── how far clients have acknowledged ──▶ ReceiptBuffer ───▶ │ RecordWriter │    ║
//!                                                    (bounded,          └──────────────┘    ╠═▶ tidegate dlq
//!                                                     never wait)        (one task)         ╚═▶ tidegate receipts
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | `dead_letters` | a message that reached no client, with the reason; and the queue in which it waits |
//! | `receipts` | how far a user has acknowledged a scope; and the buffer in which this waits |
//! | `store` | keeps both for all instances, in memory or in Redis |
//! | `writer` | one task that writes both to the store: dead letters one by one, receipts once a second |
//!
//! The two kinds know nothing of each other. Any thread adds to [`DeadLetterQueue`] and [`ReceiptBuffer`] without waiting.
//! [`RecordWriter`] runs on a thread that no message passes.
//!
//! This crate knows no sockets, sessions or subscriptions, and decides nothing about a message.
#![warn(missing_docs)]

mod dead_letters;
mod error;
mod receipts;
mod store;
mod writer;

pub use dead_letters::{
    BadDeadLetterId, Body, DeadLetter, DeadLetterCounts, DeadLetterId, DeadLetterQueue, DeadLetterQueueConfig, Reason,
    StoredDeadLetter,
};
pub use error::StoreError;
pub use receipts::{Acknowledged, Lag, Receipt, ReceiptBuffer, ReceiptCounts, ScopeReceipts};
pub use redis_topology::Loading;
pub use store::{Bounds, EitherStore, MemoryStore, RedisStore, RedisStoreConfig, ReplayError, Store};
pub use writer::RecordWriter;
