//! Where Redis is, how it is called, and how its sockets are opened. One URL names one server, a primary with
//! Sentinels, or a cluster.
//!
//! ```text
//!   redis://[USER:PASSWORD@]HOST[:PORT][/DB] ───────────────────────────▶ that server
//!   redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB] ─ ask ────▶ the primary, by the newest answer
//!   redis+cluster://[USER:PASSWORD@]HOST[:PORT],… ─ CLUSTER SLOTS ───────▶ the primary of a slot
//! ```
//!
//! With an `s` behind `redis`, as in `rediss://`, every connection to these servers speaks TLS.
//!
//! [`Target`] is such a URL, checked. [`Target::locate`] finds the [`Node`] to call; a caller that finds a node to be
//! the wrong one asks again. [`ClusterMap`] is the map that one node of a cluster has sent, and [`Slots`] combines
//! several maps. An older answer never replaces a newer one: Redis' epochs order both the Sentinels' answers and the
//! maps.
//!
//! [`Pools`] are the connections of the registry, the records and the CLI: one pool for each primary. A primary that
//! fails is located again, and one that does not answer is left alone for moments. A [`CommandClient`] makes their
//! calls, with one deadline for everything that a call does. The broker has connections of its own.
//!
//! These parts are shared by all callers: [`Target::connect`] and [`open`] open sockets, a [`LibraryLoader`] loads the
//! function library, a [`Redirection`] says where a cluster sends a call, and a [`CommandError`] says what an error
//! means.
//!
//! This crate does not decide when a node is the wrong one: its callers do.

mod breaker;
mod command_client;
mod command_error;
mod library_loader;
mod map;
mod node;
mod pooled;
mod pools;
mod publish;
mod redirection;
mod sentinel;
mod slots;
mod socket;
mod target;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod tls_files;
mod url;

pub use self::command_client::{CallError, CommandClient, RedisCommand, call};
pub use self::command_error::{CommandError, ErrorReply};
pub use self::library_loader::{LibraryLoader, Loading, SendCommand};
pub use self::map::{ClusterMap, Primary};
pub use self::node::Node;
pub use self::pooled::PooledConnection;
pub use self::pools::{BreakerCounts, Pools, PoolsError};
pub use self::publish::{publish_command, read_placed};
pub use self::redirection::Redirection;
pub use self::sentinel::{SentinelError, Sentinels};
pub use self::slots::Slots;
pub use self::socket::{DEAD_PEER, RedisSocket, open};
pub use self::target::{BadRedisUrl, LocateError, PrimaryLocation, Target, Topology};
pub use self::tls_files::{BadRedisTls, TlsFiles};
