//! What a token grants, in the words of its issuer, and why that does not include a channel.

use wire::{Channel, Families, Filter, Pattern, Scope, UserId};

use super::{Grant, GrantList, Grants, USER_FAMILY, bounded};

/// Most grants that a refusal lists.
const LISTED_MAX: usize = 8;

impl Grants {
    /// Why the grants do not include a subscription.
    pub(crate) fn why_not_subscribe(&self, families: &Families, user: &UserId, wanted: &Pattern) -> String {
        let hint = self.0.subscribe.hint(&wanted.scope, &wanted.filter);
        format!("the token does not grant this channel; {}{hint}", self.listed_subscribe(families, user))
    }

    /// Why the grants do not include a publish.
    pub(crate) fn why_not_publish(&self, families: &Families, user: &UserId, wanted: &Channel) -> String {
        let hint = self.0.publish.hint(&wanted.scope, &Filter::Exact(wanted.topic().into()));
        let listed = listed(&self.publish_grants(families, user));
        format!("the token does not grant publishing to this channel; {listed}{hint}")
    }

    fn listed_subscribe(&self, families: &Families, user: &UserId) -> String {
        listed(&self.subscribe_grants(families, user))
    }

    /// The grants to subscribe, with those that every user has.
    pub(crate) fn subscribe_grants(&self, families: &Families, user: &UserId) -> Vec<String> {
        own(families, user).chain(self.0.subscribe.texts(families)).collect()
    }

    /// The grants to publish, with those that every user has.
    pub(crate) fn publish_grants(&self, families: &Families, user: &UserId) -> Vec<String> {
        own(families, user).chain(self.0.publish.texts(families)).collect()
    }

    /// The grants of families that this gateway does not know.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.subscribe.0.iter().chain(&self.0.publish.0).filter_map(|grant| match grant {
            Grant::Unknown(text) => Some(&**text),
            Grant::Family(_) | Grant::Scope { .. } => None,
        })
    }
}

/// The grants that every user has.
fn own(families: &Families, user: &UserId) -> impl Iterator<Item = String> {
    let family =
        families.find(USER_FAMILY).map(|_| [format!("{USER_FAMILY}:{user}"), format!("{USER_FAMILY}:{user}:*")]);
    family.into_iter().flatten()
}

fn listed(grants: &[String]) -> String {
    let shown: Vec<String> = grants.iter().take(LISTED_MAX).map(|grant| bounded(grant)).collect();
    let more = match grants.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match shown.is_empty() {
        true => "it grants nothing".into(),
        false => format!("it grants {}{more}", shown.join(", ")),
    }
}

impl GrantList {
    fn texts(&self, families: &Families) -> impl Iterator<Item = String> {
        self.0.iter().map(|grant| match grant {
            Grant::Family(family) => format!("{}:*", families.shape(*family).name),
            Grant::Scope { name, filter } => written(name, filter),
            Grant::Unknown(text) => format!("{text} (of a family that this gateway does not know)"),
        })
    }

    /// Names the mistake where a grant of the same scope is close to what is wanted.
    fn hint(&self, scope: &Scope, wanted: &Filter) -> String {
        let of_scope = self.0.iter().filter_map(|grant| match grant {
            Grant::Scope { name, filter } if **name == *scope.name() => Some((name, filter)),
            _ => None,
        });
        for (name, granted) in of_scope {
            match (granted, wanted) {
                (Filter::Below(head), Filter::Exact(topic)) if head == topic => {
                    let itself = written(name, wanted);
                    return format!("; {itself}:* does not include {itself} itself");
                }
                (Filter::Exact(topic), wanted) if is_below(topic, wanted) => {
                    let itself = written(name, granted);
                    return format!("; {itself} does not include the topics below it, {itself}:* does");
                }
                _ => {}
            }
        }
        String::new()
    }
}

/// Whether everything that `wanted` matches is below the topic.
fn is_below(topic: &str, wanted: &Filter) -> bool {
    let below = Filter::Below(topic.into());
    match wanted {
        Filter::Exact(wanted) => below.matches(wanted),
        Filter::Below(head) => **head == *topic || below.matches(head),
    }
}

fn written(scope: &str, filter: &Filter) -> String {
    match filter {
        Filter::Exact(topic) if topic.is_empty() => scope.into(),
        Filter::Exact(topic) => format!("{scope}:{topic}"),
        Filter::Below(head) if head.is_empty() => format!("{scope}:*"),
        Filter::Below(head) => format!("{scope}:{head}:*"),
    }
}
