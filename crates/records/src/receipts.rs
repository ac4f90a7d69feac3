//! Receipts: how far users have acknowledged a scope, and the buffer in which they wait for the store.

mod buffer;
mod receipt;

pub use self::buffer::{ReceiptBuffer, ReceiptCounts};
pub use self::receipt::{Acknowledged, Lag, Receipt, ScopeReceipts};
