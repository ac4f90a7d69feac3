//! A registration: the right to remove the directory's row of one connection.

use std::num::NonZeroU64;

use wire::SessionId;

/// The right to remove one row. [`Directory::connect`](crate::Directory::connect) gives it and
/// [`Directory::disconnect`](crate::Directory::disconnect) takes it back.
///
/// A client that reconnects before the server detects the end of its old socket has two connections of one session. The
/// newer connection owns the row, and the end of the older one must not remove it. Registrations are numbered in the
/// order of arrival. A connection that waits for its session's record gets its number at arrival and its row later. It
/// gets no row if a newer connection of the session arrives meanwhile.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a registration that is not returned leaves a row behind"]
pub struct Registration {
    session: SessionId,
    number: RegistrationNumber,
}

// Each connection has one, and a connection that is not open yet has room for one.
const _: () = assert!(size_of::<Option<Registration>>() <= 24);

/// Identifies a connection among all connections of this instance. A later connection has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationNumber(NonZeroU64);

impl Registration {
    pub(crate) fn new(session: SessionId, number: RegistrationNumber) -> Self {
        Self { session, number }
    }

    /// Session that owns the row.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Later registrations have higher numbers.
    #[must_use]
    pub fn number(&self) -> RegistrationNumber {
        self.number
    }
}

impl RegistrationNumber {
    /// Number of the first connection of an instance.
    pub(crate) const FIRST: Self = Self(NonZeroU64::MIN);

    /// Number of the next connection.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
