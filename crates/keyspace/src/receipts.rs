//! The names and functions of receipts: how far users have acknowledged a scope. They share the hash tag of the scope,
//! so that one call can compare them with the newest position of the scope.

use wire::Scope;

use crate::{Footprint, Function, Keyspace};

/// The Lua text of the functions. Its header documents arguments and answers.
pub(crate) const LUA: &str = include_str!("../lua/receipts.lua");

impl Function {
    /// Stores how far users have acknowledged a scope. Arguments: user, position [, user, position …].
    pub const RECEIPT: Self = Self { name: "tidegate_receipt", keys: 2, args_min: 2, read_only: false };
    /// Returns how far users have acknowledged a scope. Arguments: most users [, user …].
    pub const RECEIPTS: Self = Self { name: "tidegate_receipts", keys: 3, args_min: 1, read_only: true };
}

/// The keys of receipts in Redis.
pub(crate) const FOOTPRINT: [Footprint; 2] = [
    Footprint {
        name: ":{TENANT/FAMILY:ID}:receipts",
        kind: "hash of user → acknowledged position and time (ms)",
        ttl: "the family's TTL plus 7 days after the last receipt; a user's receipt equally long after it last moved; at most 100,000 users",
        writer: "`tidegate_receipt`, called by the instances at most once a second per user, if the family keeps \
                 receipts",
        reader: "`tidegate_receipt`, `tidegate_receipts`",
    },
    Footprint {
        name: ":{TENANT/FAMILY:ID}:receipts:times",
        kind: "sorted set of users by the time (ms) their receipt last moved",
        ttl: "as the receipts",
        writer: "`tidegate_receipt`",
        reader: "`tidegate_receipt`, `tidegate_receipts`",
    },
];

impl Keyspace {
    /// The last acknowledged position of each user in a scope.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    /// assert_eq!(Keyspace::default().receipts(&scope), "tidegate:{acme/collection:42}:receipts");
    /// ```
    #[must_use]
    pub fn receipts(&self, scope: &Scope) -> String {
        format!("{}:receipts", self.channel(scope))
    }

    /// The time of the last change of each user's receipt.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::Families;
    /// let scope = Families::default().parse_scope("acme/system").unwrap();
    /// assert_eq!(Keyspace::default().receipts_times(&scope), "tidegate:{acme/system}:receipts:times");
    /// ```
    #[must_use]
    pub fn receipts_times(&self, scope: &Scope) -> String {
        format!("{}:receipts:times", self.channel(scope))
    }
}
