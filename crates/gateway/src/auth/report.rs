//! What a gateway reads in a token, for `tidegate token check`.

use wire::Families;

use crate::auth::permission::Permissions;
use crate::auth::token::{Identity, Verifier};

/// A token that a gateway with this configuration accepts.
#[derive(Debug)]
pub struct TokenReport {
    identity: Identity,
    families: Families,
    expires_in_ms: u64,
    permissions: Permissions,
}

impl TokenReport {
    /// Reads a token as a gateway does at this time.
    ///
    /// # Errors
    /// With the reason for which the gateway refuses the token.
    pub(crate) fn read(verifier: &Verifier, token: &str, now_unix_ms: u64) -> Result<Self, String> {
        let identity = verifier.verify(token, now_unix_ms / 1_000).map_err(|error| error.to_string())?;
        let expires_in_ms = verifier.expires_in_ms(&identity, now_unix_ms);
        // A user's token may have a claim `scope` of another form.
        let service = verifier.verify_service(token, now_unix_ms / 1_000);
        let permissions = service.map_or(Permissions::NONE, |service| service.permissions);
        Ok(Self { identity, families: verifier.families().clone(), expires_in_ms, permissions })
    }

    /// One line for each fact: a name, a blank and a value.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Identity { tenant, user, grants, info, .. } = &self.identity;
        let mut lines = vec![
            format!("tenant {tenant}"),
            format!("user {user}"),
            format!("expires_in_s {}", self.expires_in_ms / 1_000),
        ];
        lines.extend(grants.subscribe_grants(&self.families, user).iter().map(|grant| format!("subscribe {grant}")));
        lines.extend(grants.publish_grants(&self.families, user).iter().map(|grant| format!("publish {grant}")));
        lines.extend(self.permissions.scopes().map(|scope| format!("scope {scope}")));
        lines.extend(info.iter().map(|info| format!("info {info}")));
        lines
    }

    /// The grants of families that this configuration does not know. They grant nothing.
    pub fn unknown_grants(&self) -> impl Iterator<Item = &str> {
        self.identity.grants.unknown()
    }

    /// Whether the token grants a subscription of a channel or pattern.
    ///
    /// # Errors
    /// With the reason why it does not.
    pub fn check_subscribe(&self, channel: &str) -> Result<(), String> {
        let wanted = self.families.parse(&self.identity.tenant, channel).map_err(|error| error.to_string())?;
        match self.identity.may_subscribe(&wanted) {
            true => Ok(()),
            false => Err(self.identity.why_not_subscribe(&self.families, &wanted)),
        }
    }

    /// Whether the token grants publishing to a channel.
    ///
    /// # Errors
    /// With the reason why it does not.
    pub fn check_publish(&self, channel: &str) -> Result<(), String> {
        let wanted = self.families.parse_channel(&self.identity.tenant, channel).map_err(|error| error.to_string())?;
        match self.identity.may_publish(&wanted) {
            true => Ok(()),
            false => Err(self.identity.why_not_publish(&self.families, &wanted)),
        }
    }
}
