//! A lookup of a session's record in the store, and the store's answer.

use std::time::{Duration, Instant};

use wire::Timestamp;

use super::request::RestoreRequest;
use crate::session_record::SessionRecord;

/// A lookup waits for this long for another instance that still has the session connected. That instance closes the
/// older connection at once, and takes a second or two if its client does not answer.
pub(super) const HANDED_OVER_WITHIN: Duration = Duration::from_secs(4);

/// Pause between two attempts of the same lookup.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A [`RestoreRequest`] on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordLookup {
    /// The request of the connection.
    pub ask: RestoreRequest,
    /// Latest possible time of arrival of the connection, by the store's clock.
    pub latest: Timestamp,
    /// Unique among the lookups of one incarnation of an instance. A repeated lookup keeps its number.
    pub number: u64,
    /// When to give up.
    pub(super) until: Instant,
    /// When to ask next.
    pub(super) due: Instant,
}

impl RecordLookup {
    /// A lookup that is due now.
    #[must_use]
    pub fn new(ask: RestoreRequest, number: u64, now: Instant) -> Self {
        Self { latest: ask.since, ask, number, until: now + HANDED_OVER_WITHIN, due: now }
    }
}

/// The store's answer to a [`RecordLookup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupResult {
    /// The record. It belongs to this lookup from now on.
    Record(SessionRecord),
    /// The store has no record.
    Nothing,
    /// No record yet: an older connection of the session is being closed, or another lookup has just taken the record.
    Awaited,
    /// A newer connection continues the session.
    Replaced,
}
