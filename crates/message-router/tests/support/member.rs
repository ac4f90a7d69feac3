//! One subscriber as a shard keeps it: how it handles the router's outputs, and what it must never see.

use message_router::{Gap, Joined, Joiner, ShardIndex, Start};
use wire::{GapReason, Position, Scope};

/// A subscriber and everything that it received.
pub(crate) struct Member {
    pub(crate) shard: ShardIndex,
    pub(crate) joiner: Joiner,
    pub(crate) scope: Scope,
    /// The position that it resumes from.
    pub(crate) asked: Option<Position>,
    /// Its position: the last message that it received, or where it began.
    pub(crate) last: Option<Position>,
    /// Messages that its shard received since it joined, until its join is answered.
    kept: Option<Vec<Position>>,
    /// Number of interim answers.
    pub(crate) got_degraded: usize,
    /// Its shard received messages without a position, and [`Output::Isolated`] has not come yet.
    pub(crate) received_local: bool,
    /// Number of isolations reported to it.
    pub(crate) isolations: u64,
    pub(crate) gaps: Vec<Gap>,
}

impl Member {
    pub(crate) fn new(shard: ShardIndex, joiner: Joiner, scope: Scope, asked: Option<Position>) -> Self {
        let (kept, gaps) = (Some(Vec::new()), Vec::new());
        let (got_degraded, received_local, isolations) = (0, false, 0);
        Self { shard, joiner, scope, asked, last: asked, kept, got_degraded, received_local, isolations, gaps }
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.kept.is_some()
    }

    /// Its shard received a message.
    pub(crate) fn receive(&mut self, position: Position, published: &[Position]) {
        match &mut self.kept {
            Some(kept) => kept.push(position),
            None => self.take(position, published),
        }
    }

    /// Its shard received a gap. While the member joins, its answer ends after that gap.
    pub(crate) fn receive_gap(&mut self, gap: Gap, ever: &[Position]) {
        if self.kept.is_none() {
            self.check_gap(gap, ever);
            self.last = Some(gap.upto);
            self.gaps.push(gap);
        }
    }

    /// A certain gap must contain a message that this client did not receive. What a failover lost may also lie before
    /// the gap, if it arrived late and in a generation that the scope has left.
    fn check_gap(&self, gap: Gap, ever: &[Position]) {
        let is_missed = |p: &Position| Some(*p) > self.last && *p <= gap.upto;
        if gap.certain && gap.reason != GapReason::Failover {
            let last = self.last;
            assert!(ever.iter().any(is_missed), "{:?} after {last:?}: false {gap:?}", self.joiner);
        }
    }

    /// The router answered its join. Returns the position to join again from, if there are more messages.
    pub(crate) fn joined(&mut self, joined: Joined, published: &[Position], ever: &[Position]) -> Option<Position> {
        assert!(self.is_joining(), "{:?} is answered once", self.joiner);
        match joined.start {
            Start::Degraded => {
                self.got_degraded += 1;
                assert_eq!(self.got_degraded, 1, "an interim answer is given once");
                assert_eq!((joined.upto, joined.entries.len(), joined.more), (None, 0, false));
                return None;
            }
            Start::Fresh => {
                assert_eq!(self.asked, None, "only one without a position begins afresh");
                self.last = joined.upto;
            }
            Start::Resumed => assert!(self.last.is_some(), "only one with a position resumes"),
            Start::Gap(gap) => {
                assert_eq!((gap.after, Some(gap.upto)), (self.last, joined.upto));
                self.check_gap(gap, ever);
                self.last = joined.upto;
                self.gaps.push(gap);
            }
        }
        joined.entries.iter().for_each(|entry| self.take(entry.position, published));
        let upto = joined.upto.expect("a final answer has a place");
        if joined.more {
            assert_eq!(self.last, Some(upto), "a page ends with its last entry");
            return Some(upto);
        }
        self.skip_to(upto, published);
        for position in self.kept.take().expect("checked above").into_iter().filter(|p| *p > upto) {
            self.take(position, published);
        }
        None
    }

    /// A message reaches the client. It must follow the last one, with no published message between them.
    fn take(&mut self, position: Position, published: &[Position]) {
        assert!(
            !self.received_local,
            "{:?} in {}: {position} before it was told of its isolation",
            self.joiner, self.scope
        );
        let last = self.last.expect("a client knows where it began");
        assert!(position > last, "{:?} in {}: {position} again or out of order after {last}", self.joiner, self.scope);
        let missed: Vec<_> = published.iter().filter(|p| **p > last && **p < position).collect();
        assert!(missed.is_empty(), "{:?} in {}: silently missed {missed:?}", self.joiner, self.scope);
        self.last = Some(position);
    }

    /// The router states this position, so no published message may lie before it that the client has not received.
    fn skip_to(&mut self, upto: Position, published: &[Position]) {
        let last = self.last.expect("a client knows where it began");
        assert!(upto >= last, "{:?} in {}: set back from {last} to {upto}", self.joiner, self.scope);
        let missed: Vec<_> = published.iter().filter(|p| **p > last && **p <= upto).collect();
        assert!(missed.is_empty(), "{:?} in {}: told it had seen {missed:?}", self.joiner, self.scope);
        self.last = Some(upto);
    }

    /// Nothing is under way any more: the member must have every message.
    pub(crate) fn is_complete(&self, published: &[Position]) {
        assert!(!self.received_local, "{:?} in {} is never told of its isolation", self.joiner, self.scope);
        assert!(!self.is_joining(), "{:?} in {} is never answered", self.joiner, self.scope);
        let missed: Vec<_> = published.iter().filter(|p| Some(**p) > self.last).collect();
        assert!(missed.is_empty(), "{:?} in {}: never got {missed:?} after {:?}", self.joiner, self.scope, self.last);
    }
}
