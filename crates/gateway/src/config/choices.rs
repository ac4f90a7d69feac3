//! The words and bounds of keys that several modules know.

use message_router::ShardIndex;

/// Largest number of shards. On a machine with more cores the default is this number.
pub(super) const SHARDS_MAX: i64 = ShardIndex::COUNT_MAX as i64;

/// The words of `limits.on_excess`.
pub(super) const ON_EXCESS: &[&str] = &["reject", "close_oldest"];

/// The words of `on_isolation` of a family.
pub(super) const ON_ISOLATION: &[&str] = &["local", "read_only"];

/// The words of `on_slow` of a family.
pub(super) const ON_SLOW: &[&str] = &["catch_up", "latest", "close"];

/// The words of `acknowledge` of a family.
pub(super) const ACKNOWLEDGE: &[&str] = &["stored", "replicated"];

pub(super) const ALGORITHMS: &[&str] = &["HS256", "RS256", "ES256", "EdDSA"];
