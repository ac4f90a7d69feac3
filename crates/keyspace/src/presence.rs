//! The names and functions of presence: who is in which scope. The keys are the registry's, so that whoever ends an
//! instance's incarnation ends its members in the same step.

use std::fmt::Display;

use wire::{InstanceId, Scope};

use crate::{Footprint, Function, Keyspace};

/// What joining and leaving mean; the registry's functions use it too.
pub(crate) const MEMBERS_LUA: &str = include_str!("../lua/members.lua");
/// The functions' text; the header says what each takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/presence.lua");

impl Function {
    /// Changes what one incarnation of an instance holds, and lets those leave who are due.
    pub const PRESENCE_WRITE: Self = Self { name: "tidegate_presence_write", keys: 2, args_min: 3, read_only: false };
    /// Says that what an incarnation holds will be written anew.
    pub const PRESENCE_REWRITE: Self =
        Self { name: "tidegate_presence_rewrite", keys: 2, args_min: 3, read_only: false };
    /// Tells who is in some scopes.
    pub const PRESENCE_LIST: Self = Self { name: "tidegate_presence_list", keys: 1, args_min: 1, read_only: true };
}

/// What presence keeps in Redis; nothing, if no family has it.
pub(crate) const FOOTPRINT: [Footprint; 5] = [
    Footprint {
        name: ":{registry}:members:TENANT/FAMILY:ID",
        kind: "hash of user → time of joining (ms), `INSTANCE:INCARNATION,…` with its connections (`-` during the grace period), \
               and the `info` claim of its token",
        ttl: "a member is removed when its last connection has ended and the grace period is over, or its instances are dead",
        writer: "`tidegate_presence_write`; `tidegate_registry_renew`, `tidegate_registry_reap` remove members that are due",
        reader: "`tidegate_presence_list`",
    },
    Footprint {
        name: ":{registry}:present:INSTANCE:INCARNATION",
        kind: "set of `TENANT/FAMILY:ID user`, the members connected to one incarnation",
        ttl: "becomes `stale` when the incarnation ends",
        writer: "`tidegate_presence_write`",
        reader: "`tidegate_presence_write`, and every function that ends the incarnation",
    },
    Footprint {
        name: ":{registry}:stale:INSTANCE:INCARNATION",
        kind: "set of `TENANT/FAMILY:ID user`, the members of an ended incarnation",
        ttl: "until all of them have left, at most 256 per call",
        writer: "`tidegate_registry_reap`, `tidegate_registry_release`, `tidegate_registry_acquire`, \
                 `tidegate_presence_rewrite`",
        reader: "`tidegate_presence_write`, `tidegate_registry_renew`, `tidegate_registry_reap`",
    },
    Footprint {
        name: ":{registry}:leaving",
        kind: "sorted set of `TENANT/FAMILY:ID user`, and of incarnations with stale rows, by due time (ms)",
        ttl: "an entry is removed when the member leaves or comes back",
        writer: "as the members",
        reader: "`tidegate_presence_write`, `tidegate_registry_renew`",
    },
    Footprint {
        name: ":{registry}:presence",
        kind: "stream of members that joined (`+`) and left (`-`), and the id of the previous entry (`p`)",
        ttl: "no expiry; the newest 256 entries",
        writer: "as the members",
        reader: "instances with clients that watch a scope (`XREAD BLOCK`)",
    },
];

impl Keyspace {
    /// Who is in a scope.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    /// assert_eq!(Keyspace::default().members(&scope), "tidegate:{registry}:members:acme/collection:42");
    /// ```
    #[must_use]
    pub fn members(&self, scope: &Scope) -> String {
        format!("{}:{{registry}}:members:{scope}", self.prefix())
    }

    /// What one incarnation of an instance holds of all scopes.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().present(&gw, "650000000000002a"), "tidegate:{registry}:present:gw-1:650000000000002a");
    /// ```
    #[must_use]
    pub fn present(&self, instance: &InstanceId, incarnation: impl Display) -> String {
        self.per_incarnation("present", instance, incarnation)
    }

    /// The stream of who joined and who left.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().presence(), "tidegate:{registry}:presence");
    /// ```
    #[must_use]
    pub fn presence(&self) -> String {
        format!("{}:{{registry}}:presence", self.prefix())
    }
}
