//! The tokens, sessions and users that this instance does not accept, as it has heard. Shared by the edge and all
//! shards. It keeps what it has heard while Redis is away.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU64;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use connection_registry::{Revocation, RevocationSubject};
use hashbrown::HashMap;
use wire::{SessionId, TenantId, UserId};

/// What identifies a token when it is revoked: 24 bytes of every connection. Digests with a random key take less memory
/// than the texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenMark {
    /// Digest of the `jti` claim.
    jti: Option<NonZeroU64>,
    /// Digest of the `sid` claim.
    sid: Option<NonZeroU64>,
    /// The `iat` claim, or the earliest time at which the token can have been issued, in seconds since 1970.
    issued_at_s: u64,
}

/// What a revocation may name of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'i> {
    pub(crate) tenant: &'i TenantId,
    pub(crate) user: &'i UserId,
    pub(crate) mark: TokenMark,
}

/// What is revoked now.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// The key of the digests.
    digests: RandomState,
    revoked: RwLock<Revoked>,
}

#[derive(Debug, Default)]
pub(crate) struct Revoked {
    tokens: HashMap<NonZeroU64, Entry>,
    sessions: HashMap<NonZeroU64, Entry>,
    users: HashMap<NonZeroU64, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at_s: u64,
    until_ms: u64,
}

impl Revocations {
    /// The mark of a token with these claims.
    pub(crate) fn mark(&self, jti: Option<&str>, sid: Option<&str>, issued_at_s: u64) -> TokenMark {
        let digest = |text| self.digest(text);
        TokenMark { jti: jti.map(digest), sid: sid.map(digest), issued_at_s }
    }

    /// Takes in entries of the log, the oldest first. Returns whether something is revoked that was not before.
    pub(crate) fn apply(&self, entries: &[Revocation], now_ms: u64) -> bool {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        for Revocation { subject, at, until } in entries {
            let (table, key) = match subject {
                RevocationSubject::Token(jti) => (&mut revoked.tokens, self.digest(jti.as_str())),
                RevocationSubject::Session(id) => (&mut revoked.sessions, self.digest(id.as_str())),
                RevocationSubject::User(tenant, user) => {
                    (&mut revoked.users, self.digest((tenant.as_str(), user.as_str())))
                }
            };
            match at {
                Some(at) if until.0 > now_ms => {
                    table.insert(key, Entry { at_s: at.0 / 1_000, until_ms: until.0 });
                    is_new = true;
                }
                _ => drop(table.remove(&key)),
            }
        }
        let Revoked { tokens, sessions, users } = &mut *revoked;
        for table in [tokens, sessions, users] {
            table.retain(|_, entry| entry.until_ms > now_ms);
            if table.len() < table.capacity() / 4 {
                table.shrink_to_fit();
            }
        }
        is_new
    }

    /// Whether a token or its user is revoked.
    pub(crate) fn cover_token(&self, holder: Holder<'_>) -> bool {
        self.read().cover_token(self, holder)
    }

    /// Whether a session is revoked by its id.
    pub(crate) fn cover_session(&self, session: SessionId) -> bool {
        self.read().cover_session(self, session)
    }

    /// The connections that are no longer accepted.
    pub(crate) fn select<'c>(&self, connections: impl Iterator<Item = (u32, SessionId, Holder<'c>)>) -> Vec<u32> {
        let revoked = self.read();
        let is_covered = |(_, session, holder): &(u32, SessionId, Holder<'_>)| {
            revoked.cover_token(self, *holder) || revoked.cover_session(self, *session)
        };
        connections.filter(is_covered).map(|(slot, ..)| slot).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Revoked> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, of: impl Hash) -> NonZeroU64 {
        NonZeroU64::new(self.digests.hash_one(of)).unwrap_or(NonZeroU64::MIN)
    }
}

impl Revoked {
    fn cover_token(&self, revocations: &Revocations, holder: Holder<'_>) -> bool {
        let TokenMark { jti, sid, issued_at_s } = holder.mark;
        let names = |table: &HashMap<NonZeroU64, Entry>, key: Option<NonZeroU64>| {
            key.is_some_and(|key| !table.is_empty() && table.contains_key(&key))
        };
        names(&self.tokens, jti)
            || names(&self.sessions, sid)
            || !self.users.is_empty() && {
                let owner = revocations.digest((holder.tenant.as_str(), holder.user.as_str()));
                self.users.get(&owner).is_some_and(|entry| issued_at_s <= entry.at_s)
            }
    }

    fn cover_session(&self, revocations: &Revocations, session: SessionId) -> bool {
        !self.sessions.is_empty() && self.sessions.contains_key(&revocations.digest(session.to_string().as_str()))
    }
}

#[cfg(test)]
mod tests;
