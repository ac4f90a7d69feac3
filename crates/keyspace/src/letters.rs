//! The names and the function of dead letters. A tenant's keys share its name as the hash tag; scopes have a slash in
//! theirs, so the two cannot meet.

use wire::TenantId;

use crate::{Footprint, Function, Keyspace};

/// The function's text; the header says what it takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/letters.lua");

impl Function {
    /// Keeps a dead letter. Arguments: id, most letters, ms they are kept, field, value [, field, value …].
    pub const LETTER: Self = Self { name: "tidegate_letter", keys: 2, args_min: 5, read_only: false };
}

/// What is kept of dead letters in Redis.
pub(crate) const FOOTPRINT: [Footprint; 2] = [
    Footprint {
        name: ":{TENANT}:letters",
        kind: "stream of `reason`, `instance`, `channel`, `user`, `position`, `at` (ms), `detail`, `size`, and `message`, \
               `redacted` or `too_big`",
        ttl: "`dead_letters.ttl_ms` (7 days); the newest `dead_letters.entries_max` (1,000)",
        writer: "`tidegate_letter`, called by the instances",
        reader: "`tidegate dlq`, which removes letters too",
    },
    Footprint {
        name: ":{TENANT}:letters:seen",
        kind: "sorted set of letters' ids by time (ms), the newest 10,000",
        ttl: "as the letters",
        writer: "`tidegate_letter`",
        reader: "`tidegate_letter`",
    },
];

impl Keyspace {
    /// The stream of a tenant's dead letters.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::TenantId;
    /// let acme = TenantId::parse("acme").unwrap();
    /// assert_eq!(Keyspace::default().letters(&acme), "tidegate:{acme}:letters");
    /// // What could leave the hash tag is no tenant:
    /// assert!(TenantId::parse("a}b").is_err());
    /// ```
    #[must_use]
    pub fn letters(&self, tenant: &TenantId) -> String {
        format!("{}:{{{tenant}}}:letters", self.prefix())
    }

    /// The ids of the letters that were kept, so that each is kept once.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::TenantId;
    /// let acme = TenantId::parse("acme").unwrap();
    /// assert_eq!(Keyspace::default().letters_seen(&acme), "tidegate:{acme}:letters:seen");
    /// ```
    #[must_use]
    pub fn letters_seen(&self, tenant: &TenantId) -> String {
        format!("{}:seen", self.letters(tenant))
    }
}
