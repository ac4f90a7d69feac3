//! Replies of Redis' functions about leases, rows and peers.

use std::time::Duration;

use wire::{InstanceId, Timestamp};

use super::commands;
use super::foreign_entries::ForeignEntries;
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::roster::PeerHeartbeat;
use crate::store::record::{Decoded, PeerRecord};
use crate::store::{Acquired, DirectoryReply, LeaseRenewal};

/// Reads `GRANTED`, token, clock and the previous record of the peer, or `BUSY` and a token.
pub(super) fn read_acquired(answer: &[String]) -> Option<Acquired> {
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["GRANTED", token, at, before] => Some(Acquired::Granted {
            token: Token::from_store(token),
            at: Some(read_clock(at)?),
            before: PeerRecord::decode(before).map(|record| record.incarnation),
        }),
        ["BUSY", token] => Some(Acquired::Busy { holder: holder(token)? }),
        _ => None,
    }
}

/// Reads `OK`, the clock, the number of rows, and commands.
pub(super) fn read_renewed(answer: &[String]) -> Option<LeaseRenewal> {
    let [_, at, listed @ ..] = answer else { return None };
    Some(LeaseRenewal { at: Some(read_clock(at)?), listed: read_listed(listed)? })
}

/// Reads the number of rows, and commands.
pub(super) fn read_listed(answer: &[String]) -> Option<DirectoryReply> {
    let [rows, pairs @ ..] = answer else { return None };
    Some(DirectoryReply { rows: rows.parse().ok()?, commands: commands::read(pairs)? })
}

/// Reads the id, the age in ms and the record of each peer. Passes over malformed records.
pub(super) fn read_peers(answer: &[String], foreign: &ForeignEntries) -> Vec<PeerHeartbeat> {
    let heartbeats = answer.chunks(3).filter_map(|entry| {
        let [id, age_ms, record] = entry else { return None };
        let heartbeat = read_heartbeat(id, age_ms, record);
        if heartbeat.is_none() {
            foreign.peer(id, record);
        }
        heartbeat
    });
    heartbeats.collect()
}

fn read_heartbeat(id: &str, age_ms: &str, record: &str) -> Option<PeerHeartbeat> {
    let Decoded { incarnation, number, address, load } = PeerRecord::decode(record)?;
    let instance = Instance { id: InstanceId::parse(id).ok()?, incarnation, address };
    Some(PeerHeartbeat { instance, number, age: Duration::from_millis(age_ms.parse().ok()?), load })
}

fn read_clock(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp)
}

/// The incarnation at the end of a token.
fn holder(token: &str) -> Option<Incarnation> {
    Incarnation::parse(token.rsplit(':').next()?)
}
