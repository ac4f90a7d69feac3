//! PURE. Refusing a client once, so that a balancer with sticky sessions sends it to another instance.
//!
//! A client that was moved away returns with its cookie, and the cookie leads back to this instance. It is answered
//! with 503: HAProxy then tries another instance (`retry-on 503`, `redispatch 1`) and sets its own cookie again. A
//! client that returns once more had no other instance to go to, and is admitted.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use wire::SessionId;

/// How long a refused client is remembered.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How many refused clients are remembered. Further ones are admitted at once. Each takes 32 bytes, twice.
const REMEMBERED_MAX: usize = 16_384;

/// The clients that were refused recently. Used by one thread.
#[derive(Debug, Default)]
pub(crate) struct Diversion {
    recent: RefCell<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    cookies: HashSet<SessionId>,
    /// In the order of arrival.
    times: VecDeque<(Instant, SessionId)>,
}

impl Diversion {
    /// Whether the client with this cookie is refused now.
    pub(crate) fn turns_away(&self, cookie: SessionId, now: Instant) -> bool {
        self.remember(cookie, now)
    }

    /// Remembers the client with this cookie as refused, so that it is admitted when it returns. Returns whether it is
    /// new and there is room.
    pub(crate) fn remember(&self, cookie: SessionId, now: Instant) -> bool {
        let mut recent = self.recent.borrow_mut();
        while let Some((at, old)) = recent.times.front().copied()
            && now.saturating_duration_since(at) >= REMEMBERED
        {
            recent.times.pop_front();
            recent.cookies.remove(&old);
        }
        if recent.times.len() >= REMEMBERED_MAX || !recent.cookies.insert(cookie) {
            return false;
        }
        recent.times.push_back((now, cookie));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_within_its_time() {
        let (diversion, now) = (Diversion::default(), Instant::now());
        let [one, two] = [1, 2].map(SessionId::from_random);
        assert!(diversion.turns_away(one, now));
        assert!(!diversion.turns_away(one, now), "it found no other door");
        assert!(diversion.turns_away(two, now + REMEMBERED / 2));
        assert!(diversion.turns_away(one, now + REMEMBERED));
        assert!(!diversion.turns_away(two, now + REMEMBERED));
        assert!(!diversion.turns_away(one, now + REMEMBERED));
    }

    #[test]
    fn who_cannot_be_remembered_comes_in() {
        let (diversion, now) = (Diversion::default(), Instant::now());
        let turned_away = (0..20_000).filter(|n| diversion.turns_away(SessionId::from_random(*n), now)).count();
        assert_eq!(turned_away, REMEMBERED_MAX);
        assert!(diversion.turns_away(SessionId::from_random(99_999), now + REMEMBERED));
    }
}
