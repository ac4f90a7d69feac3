//! Where Redis is: one server, one watched by Sentinels, or a cluster; said by one URL.
//!
//! ```text
//!   redis://[USER:PASSWORD@]HOST[:PORT][/DB] ───────────────────────────▶ that server
//!   redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB] ─ ask ────▶ the primary, by the newest answer
//!   redis+cluster://[USER:PASSWORD@]HOST[:PORT],… ─ CLUSTER NODES ───────▶ the primary of a slot
//! ```
//!
//! [`Target`] is such a URL, checked. [`Target::locate`] finds the [`Node`] to talk to, anew at each call: whoever
//! finds that a node is not what it was asks again. [`ClusterMap`] is what a node of a cluster says of its slots, and [`Slots`]
//! what several have said. Older answers never outweigh newer ones: Redis' epochs order both kinds.
//!
//! [`Pools`] are the connections of those who call now and then, from the registry and the records: one pool for each
//! primary, found anew when it has failed, and left alone for moments while it is known not to answer. A [`CommandClient`] makes
//! their calls, with one deadline over all that a call does. The broker has connections of its own.
//!
//! This crate does not decide when a node is the wrong one: whoever calls sees it.

mod breaker;
mod command_client;
mod map;
mod node;
mod pools;
mod publish;
mod sentinel;
mod slots;
mod target;

pub use self::command_client::{CallError, CommandClient, Loading, RedisCommand, call};
pub use self::map::{ClusterMap, Primary};
pub use self::node::Node;
pub use self::pools::{BreakerCounts, PooledConnection, Pools, PoolsError};
pub use self::publish::{publish_command, read_placed};
pub use self::sentinel::{SentinelError, Sentinels};
pub use self::slots::Slots;
pub use self::target::{BadRedisUrl, LocateError, PrimaryLocation, Target, Topology};
