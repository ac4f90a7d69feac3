//! PURE. The end of a token: its client is told, has a grace to send a new one, and is closed after that.

use super::{Session, State};
use crate::host::clock::Now;
use crate::session::rules::Rules;

/// What has to happen because of a token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The token is valid, or the client has been told that it is not.
    Nothing,
    /// Tell the client that it has this many milliseconds to send a new token.
    Tell(u64),
    /// Close the connection.
    Close,
}

impl Session {
    /// What has to happen now. The client is told once.
    pub(crate) fn check_expiry(&mut self, rules: &Rules, now: Now) -> Expiry {
        let Some(at_ms) = self.expires_at_ms() else { return Expiry::Nothing };
        let grace_ms = rules.limits.expiry_grace_ms;
        if now.unix_ms >= at_ms.saturating_add(grace_ms) {
            Expiry::Close
        } else if now.unix_ms >= at_ms && !std::mem::replace(&mut self.is_told_of_expiry, true) {
            Expiry::Tell(at_ms + grace_ms - now.unix_ms)
        } else {
            Expiry::Nothing
        }
    }

    /// When [`Self::check_expiry`] has to be called next, in milliseconds since 1970.
    pub(crate) fn expiry_due_ms(&self, rules: &Rules) -> Option<u64> {
        let grace_ms = if self.is_told_of_expiry { rules.limits.expiry_grace_ms } else { 0 };
        self.expires_at_ms().map(|at_ms| at_ms.saturating_add(grace_ms))
    }

    /// Whether the client's token has expired.
    pub(super) fn is_expired(&self, now: Now) -> bool {
        self.expires_at_ms().is_some_and(|at_ms| now.unix_ms >= at_ms)
    }

    fn expires_at_ms(&self) -> Option<u64> {
        match &self.state {
            State::AwaitHello { .. } => None,
            State::Open(identity) => Some(identity.expires_at_unix_s.saturating_mul(1_000)),
        }
    }
}
