//! The log of revocations in Redis. Reading and writing it needs no lease.

use std::time::Duration;

use keyspace::{Function, Keyspace, Slot};
use redis_topology::{CommandClient, LibraryLoader, Loading, Pools, call};
use wire::{TenantId, Timestamp, UserId};

use super::{RedisStoreConfig, malformed, text};
use crate::error::StoreError;
use crate::revocation::{Revocation, RevocationSubject};

/// Most entries that are read in one call.
const ENTRIES_MAX: usize = 512;

/// The position of a reader in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationCursor(String);

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationPage {
    /// The entries, the oldest first.
    pub entries: Vec<Revocation>,
    /// Whether there may be more.
    pub has_more: bool,
}

/// The log of revocations, on a connection of its own.
#[derive(Debug, Clone)]
pub struct RevocationLog {
    client: CommandClient,
    keyspace: Keyspace,
    slot: Slot,
}

impl RevocationLog {
    /// The log at this address. It connects at the first call, and each call ends within `deadline`.
    #[must_use]
    pub fn new(config: &RedisStoreConfig, deadline: Duration) -> Self {
        let RedisStoreConfig { target, keyspace, library, .. } = config;
        let pools = Pools::new(target.clone(), 1, deadline);
        let client = CommandClient::new(pools, LibraryLoader::new(library.clone(), Loading::Replace), deadline);
        Self { client, slot: keyspace.registry_slot(), keyspace: keyspace.clone() }
    }

    /// Reads the entries after a cursor, and moves the cursor behind them. If Redis has lost the entry of the cursor,
    /// reads from the oldest entry on.
    ///
    /// # Errors
    /// If the call to Redis fails.
    pub async fn read(&self, cursor: &mut RevocationCursor) -> Result<RevocationPage, StoreError> {
        let function = Function::REVOCATIONS;
        let mut command = call(function, &[self.keyspace.revocations()]);
        command.arg(&cursor.0).arg(ENTRIES_MAX);
        // Any program with access to Redis may have written an entry that is no text.
        let answer: Vec<Vec<u8>> = self.client.ask(self.slot, &command).await?;
        let answer: Vec<String> = answer.into_iter().map(text).collect();
        let [_, rows @ ..] = &answer[..] else { return Err(malformed(function, &answer)) };
        let (rows, rest) = rows.as_chunks::<5>();
        if !rest.is_empty() {
            return Err(malformed(function, &answer));
        }
        let entries = rows.iter().filter_map(|row| {
            let entry = read_entry(row);
            if entry.is_none() {
                tracing::warn!(id = row[0], "malformed revocation ignored");
            }
            entry
        });
        let entries = entries.collect();
        match rows.last() {
            Some([id, ..]) => cursor.0.clone_from(id),
            // The log is empty, or has nothing new. If it was lost, it is read from its beginning next time.
            None if answer[0] == "1" => cursor.0.clear(),
            None => {}
        }
        Ok(RevocationPage { entries, has_more: rows.len() == ENTRIES_MAX })
    }

    /// Revokes, or lifts a revocation. The entry counts for this long.
    ///
    /// # Errors
    /// If the call to Redis fails.
    pub async fn revoke(&self, subject: &RevocationSubject, keep: Duration, lifts: bool) -> Result<(), StoreError> {
        let (kind, what) = match subject {
            RevocationSubject::Token(jti) => ("token", jti.clone()),
            RevocationSubject::Session(id) => ("session", id.clone()),
            RevocationSubject::User(tenant, user) => ("user", Keyspace::owner(tenant, user)),
        };
        let keep_ms = keep.as_millis().to_string();
        let args = [kind, &what, &keep_ms, if lifts { "1" } else { "" }];
        let mut command = call(Function::REVOKE, &[self.keyspace.revocations()]);
        command.arg(&args);
        let _: String = self.client.ask(self.slot, &command).await?;
        Ok(())
    }
}

fn read_entry([_, kind, what, at, until]: &[String; 5]) -> Option<Revocation> {
    let subject = match kind.as_str() {
        "token" => RevocationSubject::Token(what.clone()),
        "session" => RevocationSubject::Session(what.clone()),
        "user" => {
            let (tenant, user) = what.split_once('/')?;
            RevocationSubject::User(TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?)
        }
        _ => return None,
    };
    let time = |text: &str| text.parse().ok().map(Timestamp);
    let at = time(at)?;
    Some(Revocation { subject, at: (at.0 > 0).then_some(at), until: time(until)? })
}
