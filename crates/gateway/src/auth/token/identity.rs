//! The user of a connection, and what the token grants.

use connection_registry::MemberInfo;
use wire::{Channel, Families, Pattern, TenantId, UserId};

use crate::auth::grants::Grants;
use crate::auth::revocations::{Holder, TokenMark};

/// The user of a connection, and what the token grants. Kept as long as the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Tenant of the user; the prefix of every scope.
    pub(crate) tenant: TenantId,
    /// User id: the `sub` claim of the token, or the configured claim.
    pub(crate) user: UserId,
    /// The channels that the user may use.
    pub(crate) grants: Grants,
    /// Time at which the session ends unless the token is refreshed: the token's `exp` plus the leeway.
    pub(crate) expires_at_unix_s: u64,
    /// Presence info of the user, which other members receive.
    pub(crate) info: MemberInfo,
    /// What identifies the token when it is revoked.
    pub(crate) mark: TokenMark,
}

impl Identity {
    /// Whether this identity may subscribe to every channel that the pattern matches.
    pub(crate) fn may_subscribe(&self, wanted: &Pattern) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_subscribe(&self.user, wanted)
    }

    /// Why the token does not grant a subscription, for the client's developer.
    pub(crate) fn why_not_subscribe(&self, families: &Families, wanted: &Pattern) -> String {
        self.grants.why_not_subscribe(families, &self.user, wanted)
    }

    /// Why the token does not grant a publish, for the client's developer.
    pub(crate) fn why_not_publish(&self, families: &Families, wanted: &Channel) -> String {
        self.grants.why_not_publish(families, &self.user, wanted)
    }

    /// What a revocation may name.
    pub(crate) fn holder(&self) -> Holder<'_> {
        Holder { tenant: &self.tenant, user: &self.user, mark: self.mark }
    }

    /// Whether the token has ended.
    pub(crate) fn is_expired(&self, now_unix_s: u64) -> bool {
        self.expires_at_unix_s <= now_unix_s
    }

    /// Whether this identity may publish to the channel.
    pub(crate) fn may_publish(&self, wanted: &Channel) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_publish(&self.user, wanted)
    }
}
