//! The table of all keys and channels that this product uses in Redis.

use std::fmt::Write as _;

use crate::Keyspace;

/// One kind of key or channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The name, with placeholders in capitals and without the prefix.
    pub name: &'static str,
    /// The Redis type and the content.
    pub kind: &'static str,
    /// The time when it is removed.
    pub ttl: &'static str,
    /// The functions or programs that write it.
    pub writer: &'static str,
    /// The functions or programs that read it.
    pub reader: &'static str,
}

/// The keys and channels of messages.
const MESSAGES: [Footprint; 6] = [
    Footprint {
        name: ":{TENANT/FAMILY:ID}",
        kind: "pub/sub channel",
        ttl: "not stored",
        writer: "publishing functions",
        reader: "every instance with a subscriber in the scope",
    },
    Footprint {
        name: ":{TENANT/FAMILY:ID}:stream",
        kind: "stream of `t` (time, ms), `c` (topic), `m` (message)",
        ttl: "the family's TTL, refreshed every TTL / 8 while messages are published; the family's maximum number of entries, in families of more than 200 up to one stream node more",
        writer: "publishing functions",
        reader: "`tidegate_read`",
    },
    Footprint {
        name: ":{TENANT/FAMILY:ID}:meta",
        kind: "hash of `r` (replication id), `g` (generation), `o` (newest offset), `e` (earlier generations; `+` marks lost messages), \
               `d` (time of the next upkeep, ms), `k` (positions by time, for trimming by age), `i` (newest window with ids)",
        ttl: "the family's TTL plus 7 days, an hour if nothing was ever published; does not expire while a gateway subscribes to the scope",
        writer: "publishing functions, `tidegate_open`, `tidegate_lost`; gateways (`PEXPIRE`)",
        reader: "publishing functions, `tidegate_read`, `tidegate_lost`; gateways read `g` and `o` (`HMGET`)",
    },
    Footprint {
        name: ":{TENANT/FAMILY:ID}:ids:N",
        kind: "hash of message id → position; N alternates between 0 and 1",
        ttl: "2 to 4 minutes after the message",
        writer: "publishing functions with ids",
        reader: "publishing functions with ids",
    },
    Footprint {
        name: ":{TENANT/FAMILY:ID}:mark",
        kind: "string, empty",
        ttl: "one second",
        writer: "instances, before they ask with `WAIT` whether a replica has the stored messages",
        reader: "not read",
    },
    Footprint {
        name: ":probe:INSTANCE",
        kind: "pub/sub channel; in a cluster one per node, with the suffix `:{NUMBER}`",
        ttl: "not stored",
        writer: "`tidegate_probe`, called by the instance",
        reader: "the same instance",
    },
];

impl Keyspace {
    /// Every kind of key and channel, in the order of the documents.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert!(Keyspace::footprint().any(|row| row.name == ":{TENANT/FAMILY:ID}:stream"));
    /// ```
    pub fn footprint() -> impl Iterator<Item = Footprint> {
        let registry = crate::registry::FOOTPRINT.into_iter().chain(crate::directory::FOOTPRINT);
        let registry = registry.chain(crate::restores::FOOTPRINT).chain(crate::presence::FOOTPRINT);
        let registry = registry.chain(crate::revocations::FOOTPRINT);
        MESSAGES.into_iter().chain(registry).chain(crate::dead_letters::FOOTPRINT).chain(crate::receipts::FOOTPRINT)
    }

    /// [`Self::footprint`] as the Markdown table of `docs/redis.md`.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert!(Keyspace::footprint_table().contains("`tidegate:probe:INSTANCE`"));
    /// ```
    #[must_use]
    pub fn footprint_table() -> String {
        let prefix = Self::default();
        let mut table =
            String::from("| name | type | lifetime | written by | read by |\n| --- | --- | --- | --- | --- |\n");
        for Footprint { name, kind, ttl, writer, reader } in Self::footprint() {
            writeln!(table, "| `{}{name}` | {kind} | {ttl} | {writer} | {reader} |", prefix.prefix())
                .expect("a String takes everything");
        }
        table
    }
}
