//! The names and the function of dead letters. A tenant's keys share its name as the hash tag; scopes have a slash in
//! theirs, so the two cannot meet.

use wire::TenantId;

use crate::{Footprint, Function, Keyspace};

/// The function's text; the header says what it takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/dead_letters.lua");

impl Function {
    /// Keeps a dead letter. Arguments: id, most dead letters, ms they are kept, field, value [, field, value …].
    pub const DEAD_LETTER: Self = Self { name: "tidegate_dead_letter", keys: 2, args_min: 5, read_only: false };
}

/// What is kept of dead letters in Redis.
pub(crate) const FOOTPRINT: [Footprint; 2] = [
    Footprint {
        name: ":{TENANT}:dead-letters",
        kind: "stream of `reason`, `instance`, `channel`, `user`, `position`, `at` (ms), `detail`, `size`, and `message`, \
               `redacted` or `too_big`",
        ttl: "`dead_letters.ttl_ms` (7 days); the newest `dead_letters.entries_max` (1,000)",
        writer: "`tidegate_dead_letter`, called by the instances",
        reader: "`tidegate dlq`, which also removes dead letters",
    },
    Footprint {
        name: ":{TENANT}:dead-letters:seen",
        kind: "sorted set of dead-letter ids by time (ms), the newest 10,000",
        ttl: "as the dead letters",
        writer: "`tidegate_dead_letter`",
        reader: "`tidegate_dead_letter`",
    },
];

impl Keyspace {
    /// The stream of a tenant's dead letters.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::TenantId;
    /// let acme = TenantId::parse("acme").unwrap();
    /// assert_eq!(Keyspace::default().dead_letters(&acme), "tidegate:{acme}:dead-letters");
    /// // What could leave the hash tag is no tenant:
    /// assert!(TenantId::parse("a}b").is_err());
    /// ```
    #[must_use]
    pub fn dead_letters(&self, tenant: &TenantId) -> String {
        format!("{}:{{{tenant}}}:dead-letters", self.prefix())
    }

    /// The ids of the dead letters that were kept, so that each is kept once.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::TenantId;
    /// let acme = TenantId::parse("acme").unwrap();
    /// assert_eq!(Keyspace::default().dead_letters_seen(&acme), "tidegate:{acme}:dead-letters:seen");
    /// ```
    #[must_use]
    pub fn dead_letters_seen(&self, tenant: &TenantId) -> String {
        format!("{}:seen", self.dead_letters(tenant))
    }
}
