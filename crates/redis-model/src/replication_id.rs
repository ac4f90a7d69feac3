//! The replication id of a primary.

/// The first 64 bits of `master_replid`, enough to distinguish two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicationId(pub u64);

impl ReplicationId {
    /// Reads it from the hexadecimal text of `master_replid`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text.get(..16)?, 16).ok().map(Self)
    }

    /// The first 16 bits, which are part of a generation.
    pub(crate) fn bits(self) -> u64 {
        self.0 >> 48
    }
}
