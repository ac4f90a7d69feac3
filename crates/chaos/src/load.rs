//! The messages and subscriptions of every run.

use test_support::Random;
use wire::{Families, FamilyShape};

/// Number of clients of a run, beside the clients that are bound to one instance each.
pub(crate) const CLIENTS: usize = 21;
/// Number of clients that keep only their session id.
pub(crate) const RESTORED: usize = 9;
/// Number of clients that read too slowly, in runs that have them.
pub(crate) const SLOW: usize = 9;
/// Number of publishers that publish through gateways, and of those that call Redis.
pub(crate) const GATEWAY_PUBLISHERS: usize = 3;
pub(crate) const REDIS_PUBLISHERS: usize = 3;

/// The scopes. Each has topics, and all messages of a scope go to its topics.
pub(crate) const SCOPES: [&str; 5] = ["collection:1", "collection:2", "collection:3", "collection:quiet", "system"];
/// A scope with few messages. The next message comes too late to reveal a loss there.
pub(crate) const QUIET: &str = "collection:quiet";
/// The scopes of slow clients: one per policy (the same messages later, the newest of each topic, or a close).
pub(crate) const SLOW_SCOPES: [&str; 3] = ["collection:slow", "ticker:slow", "feed:slow"];
/// The family in which a slow client gets only the newest message of each topic.
pub(crate) const NEWEST: &str = "ticker";
/// The family in which a slow client is closed and reconnects.
pub(crate) const CLOSING: &str = "feed";
const TOPICS: [&str; 3] = ["ops", "ops:cursor", "notes"];
/// The family whose channels have no id.
pub(crate) const KEYLESS: &str = "system";
/// One message out of this many goes to the quiet scope.
const QUIET_ONE_IN: u64 = 50;

/// The channel of the next message.
pub(crate) fn channel(random: &mut Random) -> String {
    let scope = if random.one_in(QUIET_ONE_IN) {
        QUIET
    } else {
        let loud: Vec<&str> = SCOPES.into_iter().filter(|scope| *scope != QUIET).collect();
        loud[random.below(loud.len())]
    };
    topic_of(scope, random)
}

/// A random channel of this scope.
pub(crate) fn topic_of(scope: &str, random: &mut Random) -> String {
    format!("{scope}:{}", TOPICS[random.below(TOPICS.len())])
}

/// All families of a run.
pub(crate) fn families() -> Families {
    let more = [NEWEST, CLOSING].map(|name| FamilyShape { name: name.into(), keyed: true });
    Families::new(Families::default().iter().map(|(_, shape)| shape.clone()).chain(more).collect())
}

/// The channel of a scope's sentinel, which every subscriber of the scope receives.
pub(crate) fn sentinel_channel(scope: &str) -> String {
    format!("{scope}:{}", TOPICS[0])
}

/// All patterns of clients that read at once.
pub(crate) fn all_patterns() -> Vec<String> {
    SCOPES.iter().map(|scope| format!("{scope}:*")).collect()
}

/// The pattern of slow client `number`.
pub(crate) fn slow_pattern(number: usize) -> String {
    format!("{}:*", SLOW_SCOPES[number % SLOW_SCOPES.len()])
}

/// The scopes of a run.
pub(crate) fn scopes(has_slow_readers: bool) -> impl Iterator<Item = &'static str> {
    SCOPES.into_iter().chain(SLOW_SCOPES.into_iter().filter(move |_| has_slow_readers))
}

/// The patterns of clients that are bound to one instance: everything, so that each instance knows of every possible
/// loss.
pub(crate) fn resident_patterns(has_slow_readers: bool) -> Vec<String> {
    scopes(has_slow_readers).map(|scope| format!("{scope}:*")).collect()
}

/// The patterns of client `number`: all of one or two scopes, or one topic of them.
pub(crate) fn patterns(number: usize) -> Vec<String> {
    let first = SCOPES[number % SCOPES.len()];
    let second = SCOPES[(number / SCOPES.len() + number + 1) % SCOPES.len()];
    let pattern = |scope: &str| match number % 4 {
        3 => sentinel_channel(scope),
        _ => format!("{scope}:*"),
    };
    if first == second { vec![pattern(first)] } else { vec![pattern(first), pattern(second)] }
}
