//! PURE. The channels that a token allows its user to subscribe to and to publish to.
//!
//! A grant is written like a channel or a pattern, and covers the channels that a subscription of the same text
//! matches. One more form covers a whole family:
//!
//! ```text
//!   collection:42          this channel only, the scope's own
//!   collection:42:ops      this topic only
//!   collection:42:*        every topic below the scope, but not the scope's own channel
//!   collection:42:ops:*    every topic below ops, but not ops itself
//!   collection:*           every collection: its own channel and every topic (only for families with ids)
//!   system:*               every topic below system, but not system itself
//! ```
//!
//! The scope `user:{sub}` with all its topics belongs to the user without a grant. Grants apply within the token's
//! tenant; [`crate::auth::token::Identity`] compares the tenants first.

use std::sync::Arc;

use wire::{Channel, ChannelError, Families, FamilyIndex, Filter, Pattern, Scope, TenantId, UserId};

/// The family whose scopes each belong to one user.
const USER_FAMILY: &str = "user";

/// The grants of one connection. Cheap to clone: tokens without claims of their own share the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants(Arc<GrantLists>);

#[derive(Debug, PartialEq, Eq)]
struct GrantLists {
    /// Patterns that the user may subscribe to.
    subscribe: GrantList,
    /// Channels that the user may publish to.
    publish: GrantList,
}

/// A checked list of grants, for subscribing or for publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantList(Box<[Grant]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grant {
    /// Every scope of a family with ids, and every topic in them.
    Family(FamilyIndex),
    /// Part of one scope.
    Scope { name: Box<str>, filter: Filter },
    /// A grant of a family that this gateway does not know. It covers nothing.
    Unknown(Box<str>),
}

/// The reason why a text is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadGrant {
    /// It is neither a channel, nor a pattern, nor a whole family.
    #[error("the grant {0:?} is not a channel or pattern: {1}")]
    Grammar(String, ChannelError),
    /// A default grant would give every user access to the channels of one user.
    #[error("the grant {0:?} cannot be a default: user:ID belongs to that user; use a claim of that user's token")]
    DefaultForUsers(String),
}

// === impl Grants ===

impl Grants {
    pub(crate) fn new(subscribe: GrantList, publish: GrantList) -> Self {
        Self(Arc::new(GrantLists { subscribe, publish }))
    }

    /// Whether `user` may subscribe to every channel that the pattern matches. The tenant must already be checked.
    pub(crate) fn may_subscribe(&self, user: &UserId, wanted: &Pattern) -> bool {
        is_own(user, &wanted.scope) || self.0.subscribe.covers(&wanted.scope, &wanted.filter)
    }

    /// Whether `user` may publish to the channel. The tenant must already be checked.
    pub(crate) fn may_publish(&self, user: &UserId, wanted: &Channel) -> bool {
        is_own(user, &wanted.scope) || self.0.publish.covers_topic(&wanted.scope, wanted.topic())
    }
}

fn is_own(user: &UserId, scope: &Scope) -> bool {
    let id = scope.name().strip_prefix(USER_FAMILY).and_then(|rest| rest.strip_prefix(':'));
    id == Some(user.as_str())
}

// === impl GrantList ===

impl GrantList {
    /// Parses the grants of a token. A grant of a family that this gateway does not know covers nothing: the same token
    /// may be used at other gateways that know the family.
    ///
    /// # Errors
    /// With the first grant that breaks the grammar. Ignoring such a grant would be safe, but the author of the
    /// issuer would not find the mistake.
    pub(crate) fn parse<S: AsRef<str>>(families: &Families, texts: &[S]) -> Result<Self, BadGrant> {
        let mut grants = Vec::with_capacity(texts.len());
        for text in texts {
            match Grant::parse(families, text.as_ref()) {
                Ok(grant) => grants.push(grant),
                Err(ChannelError::UnknownFamily(..)) => grants.push(Grant::Unknown(bounded(text.as_ref()).into())),
                Err(error) => return Err(BadGrant::Grammar(bounded(text.as_ref()), error)),
            }
        }
        Ok(Self(grants.into()))
    }

    /// Parses the grants of tokens without a claim. An unknown family is an error here, because it is a typo.
    ///
    /// # Errors
    /// With the first grant that breaks the grammar, or that gives every user access to the channels of one user.
    pub(crate) fn parse_defaults<S: AsRef<str>>(families: &Families, texts: &[S]) -> Result<Self, BadGrant> {
        let users = families.find(USER_FAMILY);
        let mut grants = Vec::with_capacity(texts.len());
        for text in texts.iter().map(AsRef::as_ref) {
            let grant = Grant::parse(families, text).map_err(|error| BadGrant::Grammar(bounded(text), error))?;
            let family = match &grant {
                Grant::Family(family) => Some(*family),
                Grant::Scope { name, .. } => families.find(name.split(':').next().unwrap_or_default()),
                Grant::Unknown(_) => None,
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
            Grant::Unknown(_) => false,
        })
    }

    /// Like [`Self::covers`] for one topic, without building a filter for each published message.
    fn covers_topic(&self, scope: &Scope, topic: &str) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::Family(family) => *family == scope.family(),
            Grant::Scope { name, filter } => **name == *scope.name() && filter.matches(topic),
            Grant::Unknown(_) => false,
        })
    }
}

impl Default for GrantList {
    /// A list that grants nothing.
    fn default() -> Self {
        Self(Box::default())
    }
}

impl Grant {
    fn parse(families: &Families, text: &str) -> Result<Self, ChannelError> {
        let whole_family = text.strip_suffix(":*").and_then(|name| families.find(name));
        if let Some(family) = whole_family.filter(|family| families.shape(*family).keyed) {
            return Ok(Self::Family(family));
        }
        // Grants are compared by the name of the scope only, so any tenant can be used here.
        let pattern = families.parse(&TenantId::default(), text)?;
        Ok(Self::Scope { name: pattern.scope.name().into(), filter: pattern.filter })
    }
}

/// Whether `granted` matches every topic that `wanted` matches.
fn covers(granted: &Filter, wanted: &Filter) -> bool {
    match (granted, wanted) {
        (_, Filter::Exact(topic)) => granted.matches(topic),
        (Filter::Exact(_), Filter::Below(_)) => false,
        (Filter::Below(granted_head), Filter::Below(head)) => granted_head == head || granted.matches(head),
    }
}

/// Truncates a grant to 64 characters, because errors quote it.
fn bounded(text: &str) -> String {
    text.chars().take(64).collect()
}

mod refusal;

#[cfg(test)]
mod tests;
