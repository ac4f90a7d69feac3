//! What holds for the channels of each family: how much is kept, for how long, and in which lane it travels.

use keyspace::Library;
use wire::{Families, FamilyIndex, FamilyShape};

/// Messages kept per scope unless the family says otherwise.
///
/// A client that comes back asks for what it missed. 1,000 is ten seconds of the 100 messages per second that
/// one connection may publish, far more than a reconnect takes; with 200-byte messages it costs Redis about
/// 0.3 MB for a busy scope and next to nothing for a quiet one, where the family's TTL ends messages first.
pub const HISTORY_ENTRIES_DEFAULT: u32 = 1_000;

/// The owner's retention of user channels: a working day and the night after it.
const USER_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// The owner's retention of collection channels.
const COLLECTION_TTL_MS: u64 = 60 * 60 * 1_000;
/// The owner's retention of system channels: an old notice is worse than none.
const SYSTEM_TTL_MS: u64 = 5 * 60 * 1_000;

/// What holds for every channel of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyPolicy {
    /// How long a message is kept, by the broker's clock.
    pub ttl_ms: u64,
    /// How many messages a scope keeps at most; 0 for a family without history.
    pub history_entries_max: u32,
    /// Which messages a busy shard writes first: 1 system, 2 user, 3 other. 0 is for control frames.
    pub lane: u8,
    /// Whether clients may publish binary messages here.
    pub binary: bool,
}

impl FamilyPolicy {
    const fn kept_for(ttl_ms: u64, lane: u8) -> Self {
        Self { ttl_ms, history_entries_max: HISTORY_ENTRIES_DEFAULT, lane, binary: false }
    }
}

/// The families a gateway knows, and the policy of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    families: Families,
    /// By [`FamilyIndex`].
    policies: Vec<FamilyPolicy>,
}

impl Policies {
    /// A table of families in the order of their indexes.
    ///
    /// # Panics
    /// Where [`Families::new`] does: the configuration has been checked before.
    #[must_use]
    pub fn new(table: Vec<(FamilyShape, FamilyPolicy)>) -> Self {
        let (shapes, policies) = table.into_iter().unzip();
        Self { families: Families::new(shapes), policies }
    }

    /// The families, which are the channel grammar.
    #[must_use]
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// What holds for one family.
    ///
    /// # Panics
    /// With an index that another table of families gave out.
    #[must_use]
    pub fn policy(&self, family: FamilyIndex) -> &FamilyPolicy {
        &self.policies[family.0 as usize]
    }

    /// The functions in Redis, with this retention compiled in: publishers need not know it.
    #[must_use]
    pub fn library(&self) -> Library {
        let row = |(index, shape)| {
            let policy = self.policy(index);
            (shape, policy.ttl_ms, u64::from(policy.history_entries_max))
        };
        Library::new(self.families.iter().map(row))
    }
}

impl Default for Policies {
    /// The three families of [`Families::default`] with the owner's retention.
    fn default() -> Self {
        let families = Families::default();
        let policy = |shape: &FamilyShape| match shape.name.as_str() {
            "system" => FamilyPolicy::kept_for(SYSTEM_TTL_MS, 1),
            "user" => FamilyPolicy::kept_for(USER_TTL_MS, 2),
            _ => FamilyPolicy::kept_for(COLLECTION_TTL_MS, 3),
        };
        let policies = families.iter().map(|(_, shape)| policy(shape)).collect();
        Self { families, policies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_owners() {
        let policies = Policies::default();
        let of = |name| *policies.policy(policies.families().find(name).unwrap());
        let seen = ["user", "collection", "system"].map(|name| (of(name).ttl_ms / 60_000, of(name).lane));
        assert_eq!(seen, [(24 * 60, 2), (60, 3), (5, 1)]);
    }
}
