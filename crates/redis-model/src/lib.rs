//! A model of Redis, with which a test can run a whole cluster: the same data and the same answers, without a process
//! and without a clock.
//!
//! ```text
//!   Call ─▶ Deployment ─▶ Node (primary) ─▶ FunctionReply or Refusal
//!                 │          └─ ReplicatedChange … ─▶ queue ─▶ Node (replica)     as far as the caller lets it run
//!                 └─▶ Push: what the subscribers of a node receive, in order
//! ```
//!
//! A [`Deployment`] is some [`Node`]s and the replication between them. The caller gives the time, and decides how much
//! a replica receives and when, and which node is promoted, restarted or disconnected. The model gives the results of
//! Redis and of the function library. It is for tests only. `tests/against_redis` sends the same commands to the model
//! and to real servers, and compares them.
//!
//! This crate has no sockets: pushes are returned to the caller, which decides how long they travel. It models what the
//! functions of `keyspace` do to a scope, and not Redis' other commands.

mod changes;
mod deployment;
mod function;
mod keys;
mod node;
mod replication_id;
mod stream;

pub use deployment::{Deployment, NodeIndex, Push};
pub use function::{Call, Draft, FunctionReply, Page, Refusal};
pub use keys::{Families, Meta, Retention};
pub use node::{Connection, Loses, Node, Role};
pub use replication_id::ReplicationId;
pub use stream::{Entry, Stream};
