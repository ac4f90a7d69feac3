//! The names and functions of receipts: how far users have got in a scope. They share the scope's hash tag, so that one
//! call can compare them with where the scope stands.

use wire::Scope;

use crate::{Footprint, Function, Keyspace};

/// The functions' text; the header says what each takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/receipts.lua");

impl Function {
    /// Writes down how far users have got. Arguments: user, position [, user, position …].
    pub const RECEIPT: Self = Self { name: "tidegate_receipt", keys: 2, args_min: 2, read_only: false };
    /// Who has got how far. Arguments: most users [, user …].
    pub const RECEIPTS: Self = Self { name: "tidegate_receipts", keys: 3, args_min: 1, read_only: true };
}

/// What is kept of receipts in Redis.
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
    /// How far each user has got in a scope.
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

    /// When each of them last moved.
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
