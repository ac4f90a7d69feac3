//! The names and functions of sessions' records.

use crate::{Footprint, Function};

/// The functions' text; the header says what each takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/restores.lua");

impl Function {
    /// Keeps records of sessions whose connections have ended.
    pub const REGISTRY_LEAVE: Self = Self { name: "tidegate_registry_leave", keys: 2, args_min: 2, read_only: false };
    /// Takes records up.
    pub const REGISTRY_TAKE: Self = Self { name: "tidegate_registry_take", keys: 2, args_min: 2, read_only: false };
}

/// What is kept of sessions in Redis.
pub(crate) const FOOTPRINT: [Footprint; 1] = [Footprint {
    name: ":{registry}:record:TENANT/USER:SESSION",
    kind: "string, `SINCE TAKER {exact, channels: [[channel, position], …]}`; TAKER is `-` until the record is taken; at most 64 KiB",
    ttl: "`registry.record_ms` (2 minutes) after it was written or taken",
    writer: "`tidegate_registry_leave`, when a connection ends whose client asked for `restore`; `tidegate_registry_take`",
    reader: "`tidegate_registry_take`",
}];
