//! What holds for the channels of each family: what is kept, in which lane it travels, and what happens when Redis is
//! away or a client is slow.

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

/// What becomes of a family's publishes while this instance is cut off from Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIsolation {
    /// The members on this instance get them, and nobody else does; nothing is kept.
    Local,
    /// They are refused, and may be tried again.
    ReadOnly,
}

/// What becomes of a family's messages for a client that takes them too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSlow {
    /// It is given them later, from history.
    CatchUp,
    /// It is given the newest of each topic, and told of the gap.
    Latest,
    /// It is closed with a code that says to come back.
    Close,
}

/// When a family's publishes are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// As soon as Redis has stored them.
    Stored,
    /// When a replica has them too, or is plainly not going to say so.
    Replicated,
}

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
    /// What becomes of publishes while this instance is cut off from Redis.
    pub on_isolation: OnIsolation,
    /// What becomes of messages for a slow client. [`OnSlow::CatchUp`] needs a history.
    pub on_slow: OnSlow,
    /// When publishes are acknowledged.
    pub acknowledge: Acknowledge,
    /// Whether dead letters are kept without what the message said.
    pub redact_dead_letters: bool,
    /// Whether clients may say how far they have got.
    pub receipts: bool,
    /// Whether subscribers are members of their scope, of whom the others are told.
    pub presence: bool,
}

impl FamilyPolicy {
    /// With the default history, for messages kept for so long.
    #[must_use]
    pub const fn kept_for(ttl_ms: u64, lane: u8, on_isolation: OnIsolation) -> Self {
        Self {
            ttl_ms,
            history_entries_max: HISTORY_ENTRIES_DEFAULT,
            lane,
            binary: false,
            on_isolation,
            on_slow: OnSlow::CatchUp,
            acknowledge: Acknowledge::Stored,
            redact_dead_letters: false,
            receipts: false,
            presence: false,
        }
    }
}

impl FamilyPolicy {
    /// Whether publishes are acknowledged only when a replica has them, which is a question only for what is kept.
    #[must_use]
    pub fn asks_replicas(&self) -> bool {
        self.acknowledge == Acknowledge::Replicated && self.history_entries_max > 0
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

    /// Whether any family's publishes are acknowledged only when a replica has them.
    #[must_use]
    pub fn asks_replicas(&self) -> bool {
        self.policies.iter().any(FamilyPolicy::asks_replicas)
    }

    /// Whether any family has presence.
    #[must_use]
    pub fn have_presence(&self) -> bool {
        self.policies.iter().any(|policy| policy.presence)
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
            "system" => FamilyPolicy::kept_for(SYSTEM_TTL_MS, 1, OnIsolation::ReadOnly),
            "user" => FamilyPolicy::kept_for(USER_TTL_MS, 2, OnIsolation::Local),
            _ => FamilyPolicy::kept_for(COLLECTION_TTL_MS, 3, OnIsolation::Local),
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
