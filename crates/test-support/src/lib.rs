//! Tools for tests, measurements and `cargo xtask` to run real programs.
//!
//! Product crates depend on this crate only in their tests. It depends on no crate of this workspace, so that it does
//! not repeat a mistake of the product. Parts that need other crates are features: `Cargo.toml` lists them.

pub mod haproxy;
#[cfg(feature = "port")]
mod port;
pub mod process;
mod process_supervisor;
mod random;
#[cfg(feature = "redis")]
mod redis_fixture;
pub mod redis_server;
#[cfg(feature = "token")]
pub mod token;
pub mod web_socket;

#[cfg(feature = "port")]
pub use self::port::ReservedPort;
pub use self::process::{Process, ProcessError};
pub use self::process_supervisor::{EndOrder, ProcessSupervisor};
pub use self::random::Random;
#[cfg(feature = "redis")]
pub use self::redis_fixture::{RedisCluster, RedisServer, SentinelSet, StagedSentinel, TlsPort};
