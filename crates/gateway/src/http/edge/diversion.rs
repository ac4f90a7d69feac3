//! PURE. Who is turned away once, so that a balancer that sticks clients to instances takes it to another.
//!
//! A client that was sent elsewhere comes back with its cookie, and the cookie leads here. It is answered 503: HAProxy
//! then tries another instance (`retry-on 503`, `redispatch 1`) and sets its own cookie anew. Who comes again all the same
//! finds no other door, and comes in.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use wire::SessionId;

/// So long it is remembered who has been turned away.
const REMEMBERED: Duration = Duration::from_secs(30);
/// And so many; more come in at once. 32 bytes each, twice.
const REMEMBERED_MAX: usize = 16_384;

/// Used by one thread.
#[derive(Debug, Default)]
pub(crate) struct Diversion {
    recent: RefCell<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    cookies: HashSet<SessionId>,
    /// In the order in which they came.
    times: VecDeque<(Instant, SessionId)>,
}

impl Diversion {
    /// Whether the client with this cookie is turned away now.
    pub(crate) fn turns_away(&self, cookie: SessionId, now: Instant) -> bool {
        self.remember(cookie, now)
    }

    /// Lets the client with this cookie in, as one that has been turned away. Gives whether this is new and there is room.
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
