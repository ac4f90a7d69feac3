//! The name and functions of revocations: tokens, sessions and users that no gateway accepts any more.

use crate::{Footprint, Function, Keyspace};

/// The Lua text of the functions. Its header documents arguments and answers.
pub(crate) const LUA: &str = include_str!("../lua/revocations.lua");

impl Function {
    /// Revokes a token, a session or a user.
    pub const REVOKE: Self = Self { name: "tidegate_revoke", keys: 1, args_min: 3, read_only: false };
    /// Returns the revocations after an entry.
    pub const REVOCATIONS: Self = Self { name: "tidegate_revocations", keys: 1, args_min: 2, read_only: true };
}

/// The key of revocations in Redis.
pub(crate) const FOOTPRINT: [Footprint; 1] = [Footprint {
    name: ":{registry}:revocations",
    kind: "stream of `k` (`token`, `session` or `user`), `w` (its `jti`, its id, or `TENANT/USER`), `a` (time of the revocation, ms; 0 if it was lifted) \
           and `u` (time until which it counts, ms)",
    ttl: "an entry as long as a token may be valid (`auth.lifetime_s_max`, 30 days); at most 100,000 entries",
    writer: "`tidegate_revoke`",
    reader: "`tidegate_revocations`, called by every instance three times a second",
}];

impl Keyspace {
    /// The stream of revocations.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().revocations(), "tidegate:{registry}:revocations");
    /// ```
    #[must_use]
    pub fn revocations(&self) -> String {
        format!("{}:{{registry}}:revocations", self.prefix())
    }
}
