//! The policies of channel families: what is kept, the lane in which messages are written, and what happens when Redis
//! is away or a client is slow.

use keyspace::Library;
use wire::{Families, FamilyIndex, FamilyShape};

/// Number of messages that a scope keeps, unless its family sets another number.
///
/// A client that reconnects asks for the messages that it missed. 1,000 messages are ten seconds of the 100 messages
/// per second that one connection may publish, far more than a reconnect takes. With messages of 200 bytes they cost
/// Redis about 0.3 MB for a busy scope, and almost nothing for a quiet one, where messages expire by the family's TTL
/// first.
pub const HISTORY_ENTRIES_DEFAULT: u32 = 1_000;

/// Retention of user channels, set by the owner: a working day and the night after it.
const USER_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// Retention of collection channels, set by the owner.
const COLLECTION_TTL_MS: u64 = 60 * 60 * 1_000;
/// Retention of system channels, set by the owner: an old notice is worse than none.
const SYSTEM_TTL_MS: u64 = 5 * 60 * 1_000;

/// What happens to publishes of a family while this instance is cut off from Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIsolation {
    /// The members on this instance get the messages and nobody else does. Nothing is kept.
    Local,
    /// Publishes are refused and may be tried again.
    ReadOnly,
}

/// What happens to messages of a family for a client that reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSlow {
    /// The client gets them later, from history.
    CatchUp,
    /// The client gets the newest message of each topic, and a gap.
    Latest,
    /// The connection is closed with a code that says to reconnect.
    Close,
}

/// When publishes of a family are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// When Redis has stored them.
    Stored,
    /// When a replica has them too, or when it is clear that none will confirm it in time.
    Replicated,
}

/// The rules for every channel of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyPolicy {
    /// Retention of a message in milliseconds, by the broker's clock.
    pub ttl_ms: u64,
    /// Most messages that a scope keeps; 0 for a family without history.
    pub history_entries_max: u32,
    /// The order in which a busy shard writes messages: 1 system, 2 user, 3 others. 0 is reserved for control frames.
    pub lane: u8,
    /// Whether clients may publish binary messages.
    pub binary: bool,
    /// What happens to publishes while this instance is cut off from Redis.
    pub on_isolation: OnIsolation,
    /// What happens to messages for a slow client. [`OnSlow::CatchUp`] requires a history.
    pub on_slow: OnSlow,
    /// When publishes are acknowledged.
    pub acknowledge: Acknowledge,
    /// Whether dead letters are stored without the content of the message.
    pub redact_dead_letters: bool,
    /// Whether clients may send receipts.
    pub receipts: bool,
    /// Whether subscribers are members of their scope and are announced to each other.
    pub presence: bool,
}

impl FamilyPolicy {
    /// A policy with this retention in milliseconds, the default history and the default for all other rules.
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
    /// Whether publishes wait for a replica. This applies only to families with a history.
    #[must_use]
    pub fn asks_replicas(&self) -> bool {
        self.acknowledge == Acknowledge::Replicated && self.history_entries_max > 0
    }
}

/// The families that a gateway knows, and the policy of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    families: Families,
    /// The policies, indexed by [`FamilyIndex`].
    policies: Vec<FamilyPolicy>,
}

impl Policies {
    /// Creates the table; the index of a family is its place in `table`.
    ///
    /// # Panics
    /// Panics where [`Families::new`] does. The configuration is checked before this call.
    #[must_use]
    pub fn new(table: Vec<(FamilyShape, FamilyPolicy)>) -> Self {
        let (shapes, policies) = table.into_iter().unzip();
        Self { families: Families::new(shapes), policies }
    }

    /// The families. They define the channel grammar.
    #[must_use]
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// The policy of one family.
    ///
    /// # Panics
    /// Panics with an index that is not in this table.
    #[must_use]
    pub fn policy(&self, family: FamilyIndex) -> &FamilyPolicy {
        &self.policies[family.0 as usize]
    }

    /// Whether publishes of any family wait for a replica.
    #[must_use]
    pub fn asks_replicas(&self) -> bool {
        self.policies.iter().any(FamilyPolicy::asks_replicas)
    }

    /// Whether any family has presence.
    #[must_use]
    pub fn have_presence(&self) -> bool {
        self.policies.iter().any(|policy| policy.presence)
    }

    /// The Redis function library with the retention of these families compiled in, so that publishers need not know
    /// it.
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
