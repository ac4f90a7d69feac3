//! A Redis to run a cluster on in one test: the same data, the same answers, no process and no clock.
//!
//! ```text
//!   Call ─▶ Deployment ─▶ Node (primary) ─▶ Answer or Refusal
//!                 │          └─ Change, Change … ─▶ queue ─▶ Node (replica)     as far as the caller lets it run
//!                 └─▶ Push: what subscribers of a node hear, in order
//! ```
//!
//! A [`Deployment`] is some [`Node`]s and what flows between them. The caller says what time it is, when a replica
//! gets how much, and who is promoted, restarted or cut off; the model says what Redis and our function library
//! would have made of it. It is for tests alone, and is held against a real Redis by the same commands in
//! `tests/against_redis`.
//!
//! This crate does not know of sockets: a push is handed back, and how long it travels is the caller's to say. It
//! models what `keyspace`'s functions do to a scope, not Redis' other commands.

mod changes;
mod deployment;
mod function;
mod keys;
mod node;
mod stream;

pub use deployment::{Deployment, NodeIndex, Push};
pub use function::{Call, Draft, FunctionReply, Page, Refusal};
pub use keys::{Families, Meta, Retention};
pub use node::{Connection, Loses, Node, ReplicationId, Role};
pub use stream::{Entry, Stream};
