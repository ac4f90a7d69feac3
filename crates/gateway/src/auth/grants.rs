//! What a token allows. Pure: patterns in, yes or no out.
//!
//! A grant is written like a channel or pattern and covers exactly what a subscription of the same text
//! would hear, with one form more for a whole family:
//!
//! ```text
//!   collection:42          that channel alone, the scope's own
//!   collection:42:ops      that topic alone
//!   collection:42:*        every topic below the scope, not the scope's own channel
//!   collection:42:ops:*    every topic below ops, not ops itself
//!   collection:*           every collection: its own channel and every topic (families with ids only)
//!   system:*               every topic below system, not system itself
//! ```
//!
//! `user:{sub}` and everything below it belongs to that user without a grant. Grants bind within the token's
//! tenant; whoever holds an identity compares tenants first ([`crate::auth::token::Identity`]).

use std::sync::Arc;

use wire::{Channel, ChannelError, Families, FamilyIndex, Filter, Pattern, Scope, TenantId, UserId};

/// The family whose scopes belong to their user.
const USER_FAMILY: &str = "user";

/// What one connection may hear and say. Cheap to clone: without claims of its own a token shares the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    /// What may be subscribed to.
    pub(crate) subscribe: GrantList,
    /// What may be published to.
    pub(crate) publish: GrantList,
}

/// Checked grants of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantList(Arc<[Grant]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grant {
    /// Every scope of a family with ids, and every topic in them.
    Family(FamilyIndex),
    /// Part of one scope.
    Scope { name: Box<str>, filter: Filter },
}

/// Why a text is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadGrant {
    /// It is neither a channel, nor a pattern, nor a whole family.
    #[error("the grant {0:?} is not a channel or pattern: {1}")]
    Grammar(String, ChannelError),
    /// A default would open one user's channels to all others.
    #[error("the grant {0:?} cannot be a default: user:ID belongs to that user; name it in that token's own claim")]
    DefaultForUsers(String),
}

// === impl Grants ===

impl Grants {
    /// Whether every message the pattern can hear is granted, to `user`, in the token's tenant.
    pub(crate) fn may_subscribe(&self, user: &UserId, wanted: &Pattern) -> bool {
        is_own(user, &wanted.scope) || self.subscribe.covers(&wanted.scope, &wanted.filter)
    }

    /// Whether `user` may publish to the channel, in the token's tenant.
    pub(crate) fn may_publish(&self, user: &UserId, wanted: &Channel) -> bool {
        is_own(user, &wanted.scope) || self.publish.covers_topic(&wanted.scope, wanted.topic())
    }
}

fn is_own(user: &UserId, scope: &Scope) -> bool {
    let id = scope.name().strip_prefix(USER_FAMILY).and_then(|rest| rest.strip_prefix(':'));
    id == Some(user.as_str())
}

// === impl GrantList ===

impl GrantList {
    /// Reads the grants of a token. A family this gateway does not know grants nothing here: the same
    /// token may serve other gateways, which do.
    ///
    /// # Errors
    /// With the first grant that breaks the grammar. Leaving it out in silence would be safe too, and would cost
    /// the issuer's author an afternoon.
    pub(crate) fn parse<S: AsRef<str>>(families: &Families, texts: &[S]) -> Result<Self, BadGrant> {
        let mut grants = Vec::with_capacity(texts.len());
        for text in texts {
            match Grant::parse(families, text.as_ref()) {
                Ok(grant) => grants.push(grant),
                Err(ChannelError::UnknownFamily(..)) => {}
                Err(error) => return Err(BadGrant::Grammar(bounded(text.as_ref()), error)),
            }
        }
        Ok(Self(grants.into()))
    }

    /// Reads the grants of tokens that carry none. Here an unknown family is a typing error.
    ///
    /// # Errors
    /// With the first grant that breaks the grammar or would open users to each other.
    pub(crate) fn parse_defaults<S: AsRef<str>>(families: &Families, texts: &[S]) -> Result<Self, BadGrant> {
        let users = families.find(USER_FAMILY);
        let mut grants = Vec::with_capacity(texts.len());
        for text in texts.iter().map(AsRef::as_ref) {
            let grant = Grant::parse(families, text).map_err(|error| BadGrant::Grammar(bounded(text), error))?;
            let family = match &grant {
                Grant::Family(family) => Some(*family),
                Grant::Scope { name, .. } => families.find(name.split(':').next().unwrap_or_default()),
            };
            if family == users {
                return Err(BadGrant::DefaultForUsers(bounded(text)));
            }
            grants.push(grant);
        }
        Ok(Self(grants.into()))
    }

    fn covers(&self, scope: &Scope, wanted: &Filter) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::Family(family) => *family == scope.family(),
            Grant::Scope { name, filter } => **name == *scope.name() && covers(filter, wanted),
        })
    }

    /// [`Self::covers`] for one topic, without building a filter for each message published.
    fn covers_topic(&self, scope: &Scope, topic: &str) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::Family(family) => *family == scope.family(),
            Grant::Scope { name, filter } => **name == *scope.name() && filter.matches(topic),
        })
    }
}

impl Default for GrantList {
    /// Grants nothing.
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Grant {
    fn parse(families: &Families, text: &str) -> Result<Self, ChannelError> {
        let whole_family = text.strip_suffix(":*").and_then(|name| families.find(name));
        if let Some(family) = whole_family.filter(|family| families.shape(*family).keyed) {
            return Ok(Self::Family(family));
        }
        // Grants are compared by the scope's name alone, so any tenant does to read one.
        let pattern = families.parse(&TenantId::default(), text)?;
        Ok(Self::Scope { name: pattern.scope.name().into(), filter: pattern.filter })
    }
}

/// Whether `granted` passes every topic that `wanted` passes.
fn covers(granted: &Filter, wanted: &Filter) -> bool {
    match (granted, wanted) {
        (_, Filter::Exact(topic)) => granted.matches(topic),
        (Filter::Exact(_), Filter::Below(_)) => false,
        (Filter::Below(granted_head), Filter::Below(head)) => granted_head == head || granted.matches(head),
    }
}

/// A grant is quoted in an error; what is quoted is bounded.
fn bounded(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
