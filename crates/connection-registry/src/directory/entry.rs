//! What the directory knows about one connection.

use std::time::Instant;

use crate::connection_row::ConnectionRow;
use crate::registration::RegistrationNumber;

/// A connection that is listed, or waits to be listed.
#[derive(Debug)]
pub(super) struct DirectoryEntry {
    pub(super) row: ConnectionRow,
    /// Time of arrival by the monotonic clock.
    pub(super) arrival: Instant,
    /// Number of the registration that owns the row.
    pub(super) number: RegistrationNumber,
    /// Whether the store may list the row, so that its removal must be written.
    pub(super) announced: bool,
    /// Whether `row.connected_at` is the time that was written to the store. The store identifies connections by it.
    pub(super) has_store_time: bool,
}
