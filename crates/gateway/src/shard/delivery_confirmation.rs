//! PURE. What a client is known to have received. The record of its session is limited to that, so that no loss is
//! hidden.
//!
//! A written message is not necessarily read. Two things prove that a client's WebSocket has read everything before
//! them: its pong, and its close frame as the answer to ours. A close frame that the client sends first proves nothing:
//! a browser discards what arrives after its `close()`.
//!
//! A record replaces the previous one. So a connection leaves one only if it [knows](Claim) all subscriptions of its
//! session.

use std::time::Instant;

use connection_registry::SessionRecord;
use wire::{Close, Pattern, Position, SessionId, Timestamp};

/// Delivery confirmation of one connection whose client wants a record of its session.
#[derive(Debug)]
pub(crate) struct DeliveryConfirmation {
    /// The session that `claim` refers to.
    session: SessionId,
    claim: Claim,
    /// When the connection was registered, or asked to be, by both clocks.
    pub(crate) arrival: Option<(Timestamp, Instant)>,
    received: PatternPositions,
    /// The positions when the newest ping was sent, if nothing waited before it.
    pinged: PatternPositions,
    /// Whether queued messages were dropped. A close frame then proves nothing about them.
    is_incomplete: bool,
    ending: Option<Ending>,
}

/// Whether a connection knows the subscriptions of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// There is no earlier record: the session is new, or none was found. The subscriptions of this connection are
    /// complete.
    New,
    /// The connection has asked for the record and has not received it. The session's subscriptions are still in that
    /// record.
    Asked,
    /// The connection has received the record.
    Given,
}

/// The position that the scope of each subscription had reached.
pub(crate) type PatternPositions = Vec<(Pattern, Position)>;

#[derive(Debug)]
struct Ending {
    /// The code of our close frame; absent if the client closed first.
    code: Option<u16>,
    held: Vec<SubscriptionAtEnd>,
}

/// A subscription at the moment when its connection began to end.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionAtEnd {
    pub(crate) pattern: Pattern,
    /// The position where the subscription begins. Absent if it is not known yet.
    pub(crate) begins: Option<Position>,
    /// The position up to which messages were queued. Absent if no message with a position was sent.
    pub(crate) queued: Option<Position>,
    /// Whether `queued` can be trusted.
    pub(crate) is_known: bool,
}

impl DeliveryConfirmation {
    /// The state of a new session that has received nothing.
    pub(crate) fn new(session: SessionId) -> Self {
        let (claim, received, pinged) = (Claim::New, Vec::new(), Vec::new());
        Self { session, claim, arrival: None, received, pinged, is_incomplete: false, ending: None }
    }

    /// The client wants a record of this session, and asks for no earlier one.
    pub(crate) fn keep(&mut self, session: SessionId) {
        if self.session != session {
            (self.session, self.claim) = (session, Claim::New);
        }
    }

    /// The client asks for the record of this session. `holds` says whether the connection has subscriptions. A
    /// connection that asks again keeps what it knew.
    pub(crate) fn ask(&mut self, session: SessionId, holds: bool) {
        let knows = self.claim == Claim::Given || (self.claim == Claim::New && holds);
        if self.session != session || !knows {
            (self.session, self.claim) = (session, Claim::Asked);
        }
    }

    /// Handles the answer: the record, or that there is none.
    pub(crate) fn answered(&mut self, found: bool) {
        self.claim = match (self.claim, found) {
            (_, true) | (Claim::Given, false) => Claim::Given,
            (Claim::New | Claim::Asked, false) => Claim::New,
        };
    }

    /// Whether this connection may leave a record of this session.
    pub(crate) fn knows(&self, session: SessionId) -> bool {
        self.session == session && self.claim != Claim::Asked
    }

    /// A ping is sent after everything up to these positions.
    pub(crate) fn ping(&mut self, sent: PatternPositions) {
        self.pinged = sent;
    }

    /// The client has answered the newest ping.
    pub(crate) fn pong(&mut self) {
        for (pattern, position) in self.pinged.drain(..) {
            match self.received.iter_mut().find(|(other, _)| *other == pattern) {
                Some((_, received)) => *received = position,
                None => self.received.push((pattern, position)),
            }
        }
    }

    /// A subscription has ended. A later one with the same name begins at another position.
    pub(crate) fn forget(&mut self, pattern: &Pattern) {
        self.received.retain(|(other, _)| other != pattern);
        self.pinged.retain(|(other, _)| other != pattern);
    }

    /// Queued messages have been dropped.
    pub(crate) fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// The connection starts to close, with our close frame of this code or without one. Only the first call counts.
    pub(crate) fn end(&mut self, code: Option<u16>, held: impl FnOnce() -> Vec<SubscriptionAtEnd>) {
        if self.ending.is_none() {
            self.ending = Some(Ending { code: code.filter(|_| !self.is_incomplete), held: held() });
        }
    }

    /// Whether another connection waits for the record: our close frame said that the session continues there.
    pub(crate) fn is_awaited(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.code == Some(Close::Replaced.code()))
    }

    /// The record of the ended connection. `answer` is the code of the client's close frame, if there was one. A client
    /// answers a close frame with the same code (RFC 6455 §5.5.1); a client that closed by itself before ours arrived
    /// has sent another code.
    ///
    /// A new session without subscriptions leaves no record. Its client's `subscribe` may have been on the way, and a
    /// record would tell the client that the session had no subscriptions.
    pub(crate) fn record(self, answer: Option<u16>) -> Option<SessionRecord> {
        let Self { claim, received, ending, .. } = self;
        let Ending { code, held } = ending.unwrap_or(Ending { code: None, held: Vec::new() });
        if held.is_empty() && claim == Claim::New {
            return None;
        }
        let exact = code.is_some() && code == answer && held.iter().all(|held| held.is_known);
        let position = |held: &SubscriptionAtEnd| match exact {
            true => held.queued,
            false => received.iter().find(|(pattern, _)| *pattern == held.pattern).map(|(_, at)| *at).or(held.begins),
        };
        let channels = held.iter().map(|held| (held.pattern.to_string().into(), position(held))).collect();
        Some(SessionRecord { channels, exact })
    }
}

#[cfg(test)]
mod tests {
    use wire::{Families, TenantId};

    use super::*;

    const DRAINED: u16 = 1012;

    fn session(number: u128) -> SessionId {
        SessionId::from_random(number)
    }

    fn pattern(text: &str) -> Pattern {
        Families::default().parse(&TenantId::default(), text).unwrap()
    }

    fn at(offset: u64) -> Position {
        Position::new(7, offset)
    }

    /// A subscription that began at 10, with everything up to 30 queued.
    fn held() -> Vec<SubscriptionAtEnd> {
        vec![SubscriptionAtEnd {
            pattern: pattern("collection:42:*"),
            begins: Some(at(10)),
            queued: Some(at(30)),
            is_known: true,
        }]
    }

    fn pattern_positions(offset: u64) -> PatternPositions {
        vec![(pattern("collection:42:*"), at(offset))]
    }

    /// Cases: what happened before the end, our close code, the client's close code; the position of the record, and
    /// whether it is exact.
    #[test]
    fn what_is_confirmed_when() {
        type Before = fn(&mut DeliveryConfirmation);
        let nothing: Before = |_| {};
        let pinged: Before = |confirmation| confirmation.ping(pattern_positions(20));
        let answered: Before = |confirmation| {
            confirmation.ping(pattern_positions(20));
            confirmation.pong();
        };
        let pinged_again: Before = |confirmation| {
            confirmation.ping(pattern_positions(20));
            confirmation.pong();
            confirmation.ping(pattern_positions(25));
        };
        let incomplete: Before = |confirmation| {
            confirmation.ping(pattern_positions(20));
            confirmation.pong();
            confirmation.mark_incomplete();
        };
        let unsubscribed_between: Before = |confirmation| {
            confirmation.ping(pattern_positions(20));
            confirmation.pong();
            confirmation.ping(pattern_positions(25));
            confirmation.forget(&pattern("collection:42:*"));
            confirmation.pong();
        };
        type Case = (&'static str, Before, Option<u16>, Option<u16>, u64, bool);
        let cases: [Case; 10] = [
            ("cut before any ping", nothing, None, None, 10, false),
            ("cut, the ping not answered", pinged, None, None, 10, false),
            ("cut behind an answered ping", answered, None, None, 20, false),
            ("cut, the last ping not answered", pinged_again, None, None, 20, false),
            ("closed by us, the socket cut", answered, Some(DRAINED), None, 20, false),
            ("closed by us, answered", answered, Some(DRAINED), Some(DRAINED), 30, true),
            ("closed by both at once", answered, Some(DRAINED), Some(1000), 20, false),
            ("closed by the client", answered, None, Some(1000), 20, false),
            ("closed by us, queued frames discarded", incomplete, Some(DRAINED), Some(DRAINED), 20, false),
            ("another subscription of the name", unsubscribed_between, None, None, 10, false),
        ];
        for (name, before, ours, theirs, position, exact) in cases {
            let mut confirmation = DeliveryConfirmation::new(session(1));
            before(&mut confirmation);
            confirmation.end(ours, held);
            let channels = vec![("collection:42:*".into(), Some(at(position)))];
            assert_eq!(confirmation.record(theirs), Some(SessionRecord { channels, exact }), "{name}");
        }
    }

    #[test]
    fn an_answer_on_its_way_still_counts_and_the_first_end_too() {
        let mut confirmation = DeliveryConfirmation::new(session(1));
        confirmation.ping(pattern_positions(20));
        confirmation.end(Some(DRAINED), held);
        confirmation.end(None, Vec::new);
        confirmation.pong();
        assert_eq!(confirmation.record(None).unwrap().channels[0].1, Some(at(20)));
    }

    #[test]
    fn an_answer_counts_for_each_subscription_by_itself() {
        let ops = || pattern("collection:42:ops");
        let mut confirmation = DeliveryConfirmation::new(session(1));
        for (all, only_ops) in [(20, 15), (25, 24)] {
            confirmation.ping(vec![(pattern("collection:42:*"), at(all)), (ops(), at(only_ops))]);
            confirmation.pong();
        }
        confirmation.ping(vec![(ops(), at(29))]);
        confirmation.pong();
        let narrow = SubscriptionAtEnd { pattern: ops(), ..held().remove(0) };
        confirmation.end(None, || held().into_iter().chain([narrow]).collect());
        let positions: Vec<_> =
            confirmation.record(None).unwrap().channels.iter().map(|(_, position)| *position).collect();
        assert_eq!(positions, [Some(at(25)), Some(at(29))]);
    }

    #[test]
    fn what_is_not_known_to_be_queued_is_not_exact() {
        for is_known in [false, true] {
            let mut confirmation = DeliveryConfirmation::new(session(1));
            let fresh = SubscriptionAtEnd { pattern: pattern("system"), begins: None, queued: None, is_known };
            confirmation.end(Some(DRAINED), || held().into_iter().chain([fresh]).collect());
            let record = confirmation.record(Some(DRAINED)).unwrap();
            let positions: Vec<_> = record.channels.iter().map(|(_, position)| *position).collect();
            let first = if is_known { at(30) } else { at(10) };
            assert_eq!((positions, record.exact), (vec![Some(first), None], is_known));
        }
    }

    /// Cases: what the connection did; whether it may leave a record with subscriptions, and whether it may leave an
    /// empty one.
    #[test]
    fn only_who_knows_the_session_leaves_a_record() {
        type Before = fn(&mut DeliveryConfirmation);
        let asked: Before = |confirmation| confirmation.ask(session(1), false);
        let given: Before = |confirmation| {
            confirmation.ask(session(1), false);
            confirmation.answered(true);
        };
        let answered_nothing: Before = |confirmation| {
            confirmation.ask(session(1), false);
            confirmation.answered(false);
        };
        let asked_again: Before = |confirmation| {
            confirmation.ask(session(1), false);
            confirmation.answered(true);
            confirmation.ask(session(1), true);
        };
        let answered_nothing_later: Before = |confirmation| {
            confirmation.ask(session(1), false);
            confirmation.answered(true);
            confirmation.ask(session(1), true);
            confirmation.answered(false);
        };
        let subscribed_and_asked: Before = |confirmation| {
            confirmation.ask(session(1), false);
            confirmation.answered(false);
            confirmation.ask(session(1), true);
        };
        let was_another: Before = |confirmation| {
            confirmation.keep(session(2));
            confirmation.ask(session(1), true);
        };
        let goes_on_as_another: Before = |confirmation| {
            confirmation.ask(session(2), false);
            confirmation.answered(true);
        };
        let cases: [(&str, Before, bool, bool); 9] = [
            ("new", |_| {}, true, false),
            ("asked, not answered", asked, false, false),
            ("given it", given, true, true),
            ("told that there is none", answered_nothing, true, false),
            ("given it, asked again", asked_again, true, true),
            ("given it, asked again, told that there is none", answered_nothing_later, true, true),
            ("told that there is none, subscribed, asked again", subscribed_and_asked, true, false),
            ("asked for another than its own until then", was_another, false, false),
            ("given that of another", goes_on_as_another, false, false),
        ];
        for (name, before, tells, tells_nothing) in cases {
            for (holds, leaves) in [(held(), tells), (Vec::new(), tells_nothing)] {
                let mut confirmation = DeliveryConfirmation::new(session(1));
                before(&mut confirmation);
                let is_empty = holds.is_empty();
                confirmation.end(None, || holds);
                let record = confirmation.knows(session(1)).then(|| confirmation.record(None)).flatten();
                assert_eq!(record.is_some(), leaves, "{name}, holds nothing: {is_empty}");
            }
        }
    }
}
