//! Entries of Redis' registry hashes: JSON, so that operators can read them and later versions can add fields.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::connection_row::ConnectionRow;
use crate::instance::{Incarnation, Instance};
use crate::load::{Duty, Heartbeat, Load};

/// An instance's entry in the hash of peers.
#[derive(Serialize, Deserialize)]
pub(super) struct PeerRecord<'a> {
    incarnation: String,
    heartbeat: u64,
    #[serde(borrow)]
    address: Cow<'a, str>,
    /// Absent in records of versions that do not report their load.
    #[serde(borrow, flatten)]
    load: Option<LoadRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct LoadRecord<'a> {
    connections: u64,
    connects_per_second: u32,
    #[serde(borrow)]
    duty: Cow<'a, str>,
}

/// A peer's entry that has been read.
pub(super) struct Decoded {
    pub(super) incarnation: Incarnation,
    pub(super) number: u64,
    pub(super) address: Box<str>,
    pub(super) load: Option<Load>,
}

impl<'a> PeerRecord<'a> {
    pub(super) fn encode(instance: &'a Instance, heartbeat: Heartbeat) -> String {
        let Load { connections, connects_per_second, duty } = heartbeat.load;
        let record = Self {
            incarnation: instance.incarnation.to_string(),
            heartbeat: heartbeat.number,
            address: (&*instance.address).into(),
            load: Some(LoadRecord { connections, connects_per_second, duty: duty.as_str().into() }),
        };
        serde_json::to_string(&record).expect("strings and numbers are JSON")
    }

    pub(super) fn decode(text: &'a str) -> Option<Decoded> {
        let record: Self = serde_json::from_str(text).ok()?;
        let load = record.load.map(|LoadRecord { connections, connects_per_second, duty }| Load {
            connections,
            connects_per_second,
            duty: Duty::parse(&duty),
        });
        let incarnation = Incarnation::parse(&record.incarnation)?;
        Some(Decoded { incarnation, number: record.heartbeat, address: record.address.into(), load })
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
    pub(super) fn encode(row: &'a ConnectionRow) -> String {
        let record = Self {
            tenant: row.tenant.as_str(),
            user: row.user.as_str(),
            shard: row.shard,
            connected_at: row.connected_at.to_string(),
        };
        serde_json::to_string(&record).expect("strings and a number are JSON")
    }
}

#[cfg(test)]
mod tests {
    use wire::InstanceId;

    use super::*;

    #[test]
    fn a_peer_reads_what_was_shown_and_does_without_what_was_not() {
        let (id, address) = (InstanceId::parse("gw-1").unwrap(), "10.0.0.1:8080".into());
        let instance = Instance { id, incarnation: Incarnation::new(7, 9), address };
        let load = Load { connections: 4_000, connects_per_second: 3_000, duty: Duty::Draining };
        let text = PeerRecord::encode(&instance, Heartbeat { number: 12, load });
        let read = PeerRecord::decode(&text).unwrap();
        assert_eq!((read.incarnation, read.number, read.load), (instance.incarnation, 12, Some(load)));
        let older = r#"{"incarnation":"0000000700000009","heartbeat":12,"address":"10.0.0.1:8080"}"#;
        assert_eq!(PeerRecord::decode(older).unwrap().load, None);
        let later = text.replace("draining", "half").replace('}', r#","more":1}"#);
        assert_eq!(PeerRecord::decode(&later).unwrap().load, Some(Load { duty: Duty::Reduced, ..load }));
    }
}
