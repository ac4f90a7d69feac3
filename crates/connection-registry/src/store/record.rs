//! What stands in Redis' registry hashes: JSON, so that operators can read it and later versions can add to it.

use serde::{Deserialize, Serialize};

use crate::directory::Row;
use crate::instance::{Incarnation, Instance};

/// An instance's entry in the hash of peers.
#[derive(Serialize, Deserialize)]
pub(super) struct PeerRecord<'a> {
    incarnation: String,
    beat: u64,
    #[serde(borrow)]
    address: std::borrow::Cow<'a, str>,
}

impl<'a> PeerRecord<'a> {
    pub(super) fn encode(instance: &'a Instance, beat: u64) -> String {
        let record = Self { incarnation: instance.incarnation.to_string(), beat, address: (&*instance.address).into() };
        serde_json::to_string(&record).expect("strings and a number are JSON")
    }

    /// Incarnation, beat number and address.
    pub(super) fn decode(text: &'a str) -> Option<(Incarnation, u64, Box<str>)> {
        let record: Self = serde_json::from_str(text).ok()?;
        Some((Incarnation::parse(&record.incarnation)?, record.beat, record.address.into()))
    }
}

/// A session's entry in the hash of its instance's rows.
#[derive(Serialize)]
pub(super) struct RowRecord<'a> {
    tenant: &'a str,
    user: &'a str,
    shard: u16,
    connected_at: String,
}

impl<'a> RowRecord<'a> {
    pub(super) fn encode(row: &'a Row) -> String {
        let record = Self {
            tenant: row.tenant.as_str(),
            user: row.user.as_str(),
            shard: row.shard,
            connected_at: row.connected_at.to_string(),
        };
        serde_json::to_string(&record).expect("strings and a number are JSON")
    }
}
