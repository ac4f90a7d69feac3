//! The slots of a Redis Cluster, by which it assigns names to nodes.

use wire::Scope;

use crate::Keyspace;

/// One slot of a Redis Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The number of slots in a cluster.
    pub const COUNT: u16 = 16384;

    /// The slot with this number, if there is one.
    ///
    /// ```
    /// # use keyspace::Slot;
    /// assert_eq!(Slot::new(12739), Some(Slot::of("123456789")));
    /// assert_eq!(Slot::new(16384), None);
    /// ```
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// The slot of a key or channel: the hash of the text between its first braces, or of the whole name.
    ///
    /// ```
    /// use keyspace::Slot;
    /// // The same values as CLUSTER KEYSLOT:
    /// assert_eq!(Slot::of("123456789").number(), 12739);
    /// assert_eq!(Slot::of("tidegate:{user1000}:stream"), Slot::of("user1000"));
    /// assert_eq!(Slot::of("a{}b").number(), 13694, "empty braces are no tag");
    /// assert_eq!(Slot::of("{a}{b}"), Slot::of("a"));
    /// ```
    #[must_use]
    pub fn of(name: &str) -> Self {
        let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(name);
        Self(crc16(hashed.as_bytes()) % Self::COUNT)
    }

    /// The number of the slot, from 0 to 16,383.
    ///
    /// ```
    /// # use keyspace::Slot;
    /// assert!(Slot::of("anything").number() < Slot::COUNT);
    /// ```
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl Keyspace {
    /// The slot of all keys and of the channel of a scope.
    ///
    /// ```
    /// # use keyspace::{Keyspace, Slot};
    /// # use wire::Families;
    /// let (keys, scope) = (Keyspace::default(), Families::default().parse_scope("acme/user:7").unwrap());
    /// assert_eq!(keys.slot(&scope), Slot::of(&keys.stream(&scope)));
    /// assert_eq!(keys.slot(&scope), Slot::of(&keys.channel(&scope)));
    /// ```
    #[must_use]
    pub fn slot(&self, scope: &Scope) -> Slot {
        // All names of a scope have its text as the hash tag, and the text contains no brace.
        Slot::of(scope.as_str())
    }

    /// The slot of all keys of the registry.
    ///
    /// ```
    /// # use keyspace::{Keyspace, Slot};
    /// let keys = Keyspace::default();
    /// assert_eq!(keys.registry_slot(), Slot::of(&keys.fence()));
    /// ```
    #[must_use]
    pub fn registry_slot(&self) -> Slot {
        Slot::of(&self.fence())
    }
}

/// The checksum CRC-16/XMODEM, by which Redis Cluster assigns slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = ((index as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};
