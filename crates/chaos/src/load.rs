//! What is published and heard in every run.

use test_support::Random;
use wire::{Families, FamilyShape};

/// Clients of a run, beside those that live on one instance each.
pub(crate) const CLIENTS: usize = 21;
/// Those that keep nothing but their session's id.
pub(crate) const RESTORED: usize = 9;
/// Those that read too slowly, where there are any.
pub(crate) const SLOW: usize = 9;
/// Publishers that speak to gateways, and those that call Redis.
pub(crate) const GATEWAY_PUBLISHERS: usize = 3;
pub(crate) const REDIS_PUBLISHERS: usize = 3;

/// Scopes, each with topics; all messages of a scope go to its topics.
pub(crate) const SCOPES: [&str; 5] = ["collection:1", "collection:2", "collection:3", "collection:quiet", "system"];
/// The one that hears little: what is lost there is not betrayed by the next message.
pub(crate) const QUIET: &str = "collection:quiet";
/// What clients hear that read too slowly: the same later, the newest of each topic, or a close.
pub(crate) const SLOW_SCOPES: [&str; 3] = ["collection:slow", "ticker:slow", "feed:slow"];
/// For a slow client the newest of each topic is enough here.
pub(crate) const NEWEST: &str = "ticker";
/// A slow client is closed here, and comes back.
pub(crate) const CLOSING: &str = "feed";
const TOPICS: [&str; 3] = ["ops", "ops:cursor", "notes"];
/// Families whose channels have no id.
pub(crate) const KEYLESS: &str = "system";
/// One message in so many goes to the quiet scope.
const QUIET_ONE_IN: u64 = 50;

/// Where the next message goes.
pub(crate) fn channel(random: &mut Random) -> String {
    let scope = if random.one_in(QUIET_ONE_IN) {
        QUIET
    } else {
        let loud: Vec<&str> = SCOPES.into_iter().filter(|scope| *scope != QUIET).collect();
        loud[random.below(loud.len())]
    };
    topic_of(scope, random)
}

/// A channel of this scope.
pub(crate) fn topic_of(scope: &str, random: &mut Random) -> String {
    format!("{scope}:{}", TOPICS[random.below(TOPICS.len())])
}

/// Every family of a run.
pub(crate) fn families() -> Families {
    let more = [NEWEST, CLOSING].map(|name| FamilyShape { name: name.into(), keyed: true });
    Families::new(Families::default().iter().map(|(_, shape)| shape.clone()).chain(more).collect())
}

/// The channel of a scope's sentinel, which everybody who hears the scope hears.
pub(crate) fn sentinel_channel(scope: &str) -> String {
    format!("{scope}:{}", TOPICS[0])
}

/// All that is heard by who reads at once.
pub(crate) fn all_patterns() -> Vec<String> {
    SCOPES.iter().map(|scope| format!("{scope}:*")).collect()
}

/// What slow client `number` hears.
pub(crate) fn slow_pattern(number: usize) -> String {
    format!("{}:*", SLOW_SCOPES[number % SLOW_SCOPES.len()])
}

/// Scopes of a run.
pub(crate) fn scopes(has_slow_readers: bool) -> impl Iterator<Item = &'static str> {
    SCOPES.into_iter().chain(SLOW_SCOPES.into_iter().filter(move |_| has_slow_readers))
}

/// What those hear that live on one instance: everything, so that each instance knows of all that may be lost.
pub(crate) fn resident_patterns(has_slow_readers: bool) -> Vec<String> {
    scopes(has_slow_readers).map(|scope| format!("{scope}:*")).collect()
}

/// What client `number` hears: all of one or two scopes, or one topic of them.
pub(crate) fn patterns(number: usize) -> Vec<String> {
    let first = SCOPES[number % SCOPES.len()];
    let second = SCOPES[(number / SCOPES.len() + number + 1) % SCOPES.len()];
    let pattern = |scope: &str| match number % 4 {
        3 => sentinel_channel(scope),
        _ => format!("{scope}:*"),
    };
    if first == second { vec![pattern(first)] } else { vec![pattern(first), pattern(second)] }
}
