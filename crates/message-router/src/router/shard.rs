//! The shards of this instance, and sets of them.

/// One shard of this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u8);

impl ShardIndex {
    /// Most shards one instance may have: a set of them is one word.
    pub const COUNT_MAX: usize = 64;
}

/// Some shards of this instance.
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
    /// Adds one.
    ///
    /// # Panics
    /// When the shard is not below [`ShardIndex::COUNT_MAX`].
    pub fn insert(&mut self, shard: ShardIndex) {
        self.0 |= Self::bit(shard);
    }

    /// Takes one out.
    pub fn remove(&mut self, shard: ShardIndex) {
        self.0 &= !Self::bit(shard);
    }

    /// Whether it is in.
    #[must_use]
    pub fn contains(self, shard: ShardIndex) -> bool {
        self.0 & Self::bit(shard) != 0
    }

    /// Whether none is in.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in order.
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
