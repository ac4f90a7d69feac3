//! What tests, measurements and `cargo xtask` need to run real programs.
//!
//! Product crates depend on it in their tests alone. It depends on no crate of this workspace, so a mistake of the
//! product is not repeated here. Parts that need other crates are features: `Cargo.toml` lists them.

pub mod haproxy;
#[cfg(feature = "port")]
mod port;
#[cfg(feature = "redis")]
mod redis_fixture;

#[cfg(feature = "port")]
pub use self::port::ReservedPort;
#[cfg(feature = "redis")]
pub use self::redis_fixture::{RedisCluster, RedisServer, SentinelSet, StagedSentinel};
