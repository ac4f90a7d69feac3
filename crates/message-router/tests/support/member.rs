//! One subscriber as a shard keeps it: what it does with the router's outputs, and what it must never see.

use message_router::{Gap, Joined, Joiner, ShardIndex, Start};
use wire::{GapReason, Position, Scope};

/// A subscriber and everything it was handed.
pub(crate) struct Member {
    pub(crate) shard: ShardIndex,
    pub(crate) joiner: Joiner,
    pub(crate) scope: Scope,
    /// The position it gave.
    pub(crate) asked: Option<Position>,
    /// How far it has come: the last message it was handed, or where it began.
    pub(crate) last: Option<Position>,
    /// Heard by its shard since it joined, until it is let in.
    kept: Option<Vec<Position>>,
    /// The interim answers it was given.
    pub(crate) got_degraded: usize,
    /// Messages without a position were handed to its shard, and it has not been told of the isolation yet.
    pub(crate) received_local: bool,
    /// How often it was told.
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

    /// Its shard was handed a message.
    pub(crate) fn receive(&mut self, position: Position, published: &[Position]) {
        match &mut self.kept {
            Some(kept) => kept.push(position),
            None => self.take(position, published),
        }
    }

    /// Its shard was told of a gap. While it joins, its answer will end behind it.
    pub(crate) fn receive_gap(&mut self, gap: Gap, ever: &[Position]) {
        if self.kept.is_none() {
            self.check_gap(gap, ever);
            self.last = Some(gap.upto);
            self.gaps.push(gap);
        }
    }

    /// A gap that is said to be certain holds something this client never got. What a failover lost may also lie
    /// before it: heard late, of a generation that the scope has left.
    fn check_gap(&self, gap: Gap, ever: &[Position]) {
        let is_missed = |p: &Position| Some(*p) > self.last && *p <= gap.upto;
        if gap.certain && gap.reason != GapReason::Failover {
            let last = self.last;
            assert!(ever.iter().any(is_missed), "{:?} after {last:?}: false {gap:?}", self.joiner);
        }
    }

    /// The router answered its join. Returns where to join again, if there is more.
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

    /// A message reaches the client: behind the last one, and nothing that was published lies between.
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

    /// It is said to stand here, so nothing that was published may lie between.
    fn skip_to(&mut self, upto: Position, published: &[Position]) {
        let last = self.last.expect("a client knows where it began");
        assert!(upto >= last, "{:?} in {}: set back from {last} to {upto}", self.joiner, self.scope);
        let missed: Vec<_> = published.iter().filter(|p| **p > last && **p <= upto).collect();
        assert!(missed.is_empty(), "{:?} in {}: told it had seen {missed:?}", self.joiner, self.scope);
        self.last = Some(upto);
    }

    /// Nothing is on its way any more: it has everything.
    pub(crate) fn is_complete(&self, published: &[Position]) {
        assert!(!self.received_local, "{:?} in {} is never told of its isolation", self.joiner, self.scope);
        assert!(!self.is_joining(), "{:?} in {} is never answered", self.joiner, self.scope);
        let missed: Vec<_> = published.iter().filter(|p| Some(**p) > self.last).collect();
        assert!(missed.is_empty(), "{:?} in {}: never got {missed:?} after {:?}", self.joiner, self.scope, self.last);
    }
}
