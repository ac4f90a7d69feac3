//! PURE. Records of sessions, for the store of one process: the same rules as in Redis, handed the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wire::{SessionId, TenantId, UserId};

use super::InstanceIncarnation;
use crate::restores::{RecordLookup, RestoreRequest};
use crate::session_record::{ClosedSessionRecord, SessionRecord};

#[derive(Debug, Default)]
pub(super) struct Records {
    kept: HashMap<(SessionId, TenantId, UserId), KeptRecord>,
    /// How long a record waits for its client.
    kept_for: Duration,
}

/// A session's record. It stays for a while when it has been taken, so that a repeated lookup gets it again.
#[derive(Debug)]
struct KeptRecord {
    /// When it is removed.
    until: Instant,
    /// Time of arrival of the connection that left it, or that has taken it.
    since: u64,
    /// The lookup that has taken it.
    taken: Option<(InstanceIncarnation, u64)>,
    record: SessionRecord,
}

/// What is known of a session's record.
pub(super) enum Found {
    /// The record. It belongs to the lookup from now on.
    Record(SessionRecord),
    /// Another lookup has taken it.
    Taken,
    /// The session has no record.
    Nothing,
}

impl Records {
    pub(super) fn new(kept_for: Duration) -> Self {
        Self { kept_for, ..Self::default() }
    }

    /// Keeps a record, unless it is too long, or a newer connection has left one or has taken one elsewhere.
    pub(super) fn leave(&mut self, incarnation: &InstanceIncarnation, left: &ClosedSessionRecord, now: Instant) {
        self.forget(now);
        let ClosedSessionRecord { session, tenant, user, since, record, .. } = left.clone();
        let key = (session, tenant, user);
        let is_newest = |kept: &KeptRecord| {
            kept.since <= since.0 || kept.taken.as_ref().is_some_and(|(taker, _)| taker == incarnation)
        };
        if record.encode().is_some() && self.kept.get(&key).is_none_or(is_newest) {
            self.kept.insert(key, KeptRecord { until: now + self.kept_for, since: since.0, taken: None, record });
        }
    }

    /// Takes a record for a lookup.
    pub(super) fn take(
        &mut self,
        incarnation: &InstanceIncarnation,
        RecordLookup { ask, number, .. }: &RecordLookup,
        now: Instant,
    ) -> Found {
        self.forget(now);
        let RestoreRequest { session, tenant, user, since, .. } = ask.clone();
        let own = (incarnation.clone(), *number);
        match self.kept.get_mut(&(session, tenant, user)) {
            Some(kept) if kept.taken.as_ref().is_none_or(|by| *by == own) => {
                (kept.until, kept.since, kept.taken) = (now + self.kept_for, since.0, Some(own));
                Found::Record(kept.record.clone())
            }
            Some(_) => Found::Taken,
            None => Found::Nothing,
        }
    }

    fn forget(&mut self, now: Instant) {
        self.kept.retain(|_, kept| kept.until > now);
    }
}
