//! The shards of this instance, and sets of them.

/// The index of one shard, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u8);

impl ShardIndex {
    /// Most shards of one instance: a set of them fits into one 64-bit word.
    pub const COUNT_MAX: usize = 64;
}

/// A set of shards.
///
/// ```
/// use message_router::{ShardIndex, ShardSet};
/// let mut set = ShardSet::default();
/// set.insert(ShardIndex(3));
/// set.insert(ShardIndex(1));
/// assert!(set.contains(ShardIndex(3)));
/// assert_eq!(set.iter().collect::<Vec<_>>(), [ShardIndex(1), ShardIndex(3)]);
/// set.remove(ShardIndex(1));
/// set.remove(ShardIndex(3));
/// assert!(set.is_empty());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Adds a shard.
    ///
    /// # Panics
    /// Panics if the shard is not below [`ShardIndex::COUNT_MAX`].
    pub fn insert(&mut self, shard: ShardIndex) {
        self.0 |= Self::bit(shard);
    }

    /// Removes a shard, if it is in the set.
    pub fn remove(&mut self, shard: ShardIndex) {
        self.0 &= !Self::bit(shard);
    }

    /// Whether the shard is in the set.
    #[must_use]
    pub fn contains(self, shard: ShardIndex) -> bool {
        self.0 & Self::bit(shard) != 0
    }

    /// Whether no shard is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ShardIndex> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = u8::try_from(rest.trailing_zeros()).expect("a word has 64 bits");
            let shard = (rest != 0).then_some(ShardIndex(index));
            rest &= rest.wrapping_sub(1);
            shard
        })
    }

    fn bit(shard: ShardIndex) -> u64 {
        assert!((shard.0 as usize) < ShardIndex::COUNT_MAX, "a shard index is below 64");
        1 << shard.0
    }
}

impl From<ShardIndex> for ShardSet {
    fn from(shard: ShardIndex) -> Self {
        Self(Self::bit(shard))
    }
}
