//! PURE. The joiners of one scope that wait for their answer, and the reads for them.
//!
//! ```text
//!   waiting ──(scope is live)──▶ queued ──▶ read: one at a time, from the lowest position in reach ──▶ answered,
//!      ▲                           ▲                                  each with what follows its own position
//!      └──── broker lost ──────────┴── the history was too old, or ended before the position
//! ```

use std::sync::Arc;

use wire::{GapReason, Position, Scope};

use super::output::{Joined, Joiner, Output, Start};
use super::positions::Positions;
use super::shard::ShardIndex;
use crate::broker::{Entry, History, Ticket};
use crate::history::{Entries, Gap, check_position, continues};

/// How often history is requested for a joiner before its answer is that it cannot be read.
const READ_ATTEMPTS_MAX: u8 = 8;

/// The joiners of one scope without an answer. Most scopes have none most of the time.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Joiners that wait until the scope is live, or has reached the position that they gave.
    pub(crate) waiting: Vec<WaitingJoiner>,
    /// Joiners with a position below the scope's, for the next read. In the order of arrival, but repeated ones come
    /// first.
    queued: Vec<WaitingJoiner>,
    /// The read in flight, or waiting to be repeated. There is one at a time: many clients that return at once cost a
    /// few reads, and a scope has at most two in flight, this one and the stream's.
    read: Option<JoinRead>,
}

/// One joiner of the scope.
#[derive(Debug)]
pub(crate) struct WaitingJoiner {
    pub(crate) shard: ShardIndex,
    pub(crate) joiner: Joiner,
    pub(crate) after: Positions,
    /// The interim answer was sent.
    pub(crate) got_degraded: bool,
    /// The history was requested after it joined. A position that is still unknown in that history is invalid.
    pub(crate) is_confirmed: bool,
    /// A page ended before its positions, so the next read for it begins after its lowest position.
    is_passed_over: bool,
    /// Number of reads that did not answer it.
    attempts: u8,
    /// The position that the scope had reached when it joined. Its answer must not end before this position.
    pub(crate) seen: Option<Position>,
}

/// One read, and the joiners that it may answer.
#[derive(Debug)]
pub(crate) struct JoinRead {
    pub(crate) ticket: Ticket,
    pub(crate) after: Position,
    pub(crate) joiners: Vec<WaitingJoiner>,
}

impl WaitingJoiner {
    pub(crate) fn new(shard: ShardIndex, joiner: Joiner, after: Positions, seen: Option<Position>) -> Self {
        Self {
            shard,
            joiner,
            after,
            got_degraded: false,
            is_confirmed: false,
            is_passed_over: false,
            attempts: 0,
            seen,
        }
    }

    /// Sends the final answer.
    pub(crate) fn answer(self, scope: &Scope, page: Page, out: &mut Vec<Output>) {
        let Page { start, lost, entries, upto, more } = page;
        let joined = Joined { scope: scope.clone(), start, lost, entries, upto: Some(upto), more };
        out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
    }

    /// Answers a joiner at the current position of the scope. Its positions other than `top` cannot be honoured, for
    /// `reason`.
    pub(crate) fn answer_at(self, scope: &Scope, top: Position, reason: GapReason, out: &mut Vec<Output>) {
        let elsewhere = self.after.iter().filter(|position| *position != top);
        let lost = elsewhere.map(|position| Gap::new(Some(position), top, reason)).collect();
        let resumed = self.after.iter().find(|position| *position == top);
        self.answer(scope, Page::at(top, resumed, lost), out);
    }

    /// Sends the interim answer, once.
    pub(crate) fn send_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.got_degraded, true) {
            let entries = Entries::default();
            let (start, lost, upto) = (Start::Degraded, Vec::new(), None);
            let joined = Joined { scope: scope.clone(), start, lost, entries, upto, more: false };
            out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
        }
    }

    /// Counts a read that did not answer it. Returns whether that was the last attempt.
    pub(crate) fn is_exhausted_by_one_more(&mut self) -> bool {
        self.attempts += 1;
        self.attempts >= READ_ATTEMPTS_MAX
    }

    /// Notes that a page ended before its positions.
    pub(crate) fn pass_over(mut self) -> Self {
        self.is_passed_over = true;
        self
    }

    /// Whether a page of `reach` entries above `after` has what follows its lowest position, if no entry is large.
    fn is_in_reach(&self, after: Position, reach: u64) -> bool {
        let Some(own) = self.after.lowest() else { return false };
        own >= after && (own.generation != after.generation || own.offset - after.offset < reach)
    }
}

impl Joins {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.queued.is_empty() && self.read.is_none()
    }

    /// Adds a joiner with a position below the scope's. A read in flight may answer it too.
    pub(crate) fn queue(&mut self, waiting: WaitingJoiner, reach: u64) {
        match &mut self.read {
            Some(read) if waiting.is_in_reach(read.after, reach) => read.joiners.push(waiting),
            _ => self.queued.push(waiting),
        }
    }

    /// Puts joiners that their read did not answer at the front.
    pub(crate) fn queue_again(&mut self, joiners: impl IntoIterator<Item = WaitingJoiner>) {
        self.queued.splice(..0, joiners);
    }

    /// The position for the next read: that of the joiner that waits longest, or the lowest position from which a page
    /// still reaches it. None while a read is in flight, or if no joiner waits.
    pub(crate) fn next_after(&self, reach: u64) -> Option<Position> {
        let first = self.queued.first().filter(|_| self.read.is_none())?;
        if first.is_passed_over {
            return first.after.lowest();
        }
        let generation = first.after.lowest()?.generation;
        let reaches = |after: &Position| after.generation == generation && first.is_in_reach(*after, reach);
        self.queued.iter().filter_map(|waiting| waiting.after.lowest()).filter(reaches).min()
    }

    /// Notes that a read was sent, for every joiner in reach.
    pub(crate) fn asked(&mut self, ticket: Ticket, after: Position, reach: u64) {
        debug_assert!(self.read.is_none(), "one question at a time");
        let joiners = self.queued.extract_if(.., |waiting| waiting.is_in_reach(after, reach)).collect();
        self.read = Some(JoinRead { ticket, after, joiners });
    }

    pub(crate) fn take_read(&mut self, ticket: Ticket) -> Option<JoinRead> {
        self.read.take_if(|read| read.ticket == ticket)
    }

    /// Ticket of the read in flight, or of the one that waits to be repeated.
    pub(crate) fn question(&self) -> Option<Ticket> {
        self.read.as_ref().map(|read| read.ticket)
    }

    /// The read failed and will be repeated. Returns the joiners for which that was the last attempt.
    pub(crate) fn failed(&mut self, mut read: JoinRead) -> Vec<WaitingJoiner> {
        let exhausted = read.joiners.extract_if(.., WaitingJoiner::is_exhausted_by_one_more).collect();
        self.read = Some(read).filter(|read| !read.joiners.is_empty());
        exhausted
    }

    /// The last member on `shard` left; its joiners do not wait any more. The answer to a read without joiners is
    /// ignored.
    pub(crate) fn leave(&mut self, shard: ShardIndex) {
        for joiners in self.all() {
            joiners.retain(|waiting| waiting.shard != shard);
        }
    }

    /// The scope continues after a gap. Nobody received what lies in the gap, so an answer that ends before `upto`
    /// would leave its joiner with a hole.
    pub(crate) fn see(&mut self, upto: Position) {
        self.queued.iter_mut().for_each(|waiting| waiting.seen = Some(upto));
        if let Some(read) = &mut self.read {
            read.joiners.iter_mut().for_each(|waiting| waiting.seen = Some(upto));
        }
    }

    /// The broker was lost: every joiner waits for it to come back.
    pub(crate) fn lose(&mut self) {
        self.waiting.extend(self.read.take().into_iter().flat_map(|read| read.joiners));
        self.waiting.append(&mut self.queued);
    }

    pub(crate) fn send_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        for waiting in &mut self.waiting {
            waiting.send_degraded(scope, out);
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Vec<WaitingJoiner>> {
        [&mut self.waiting, &mut self.queued].into_iter().chain(self.read.as_mut().map(|read| &mut read.joiners))
    }
}

/// The content of one answer to a joiner.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) start: Start,
    pub(crate) lost: Vec<Gap>,
    pub(crate) entries: Entries,
    pub(crate) upto: Position,
    pub(crate) more: bool,
}

impl Page {
    /// The part of `entries` that follows `after`, on a scope that has been handed on up to `top`. The entries were
    /// read from `asked`, which is at or before the lowest position. The page ends at `top` at the latest: later
    /// messages come live. None if the entries end before they reach `after`.
    ///
    /// Positions that cannot be honoured continue after the lowest one that can: what follows it is read in any case.
    ///
    /// `entries` has taken the entries of `history`. The top of `history` and `top` must be of one generation.
    pub(crate) fn new(
        after: &Positions,
        asked: Position,
        history: &History,
        entries: &Arc<[Entry]>,
        top: Position,
        keeps_history: bool,
    ) -> Option<Self> {
        debug_assert_eq!(top.generation, history.top.generation, "top and history are of one generation");
        debug_assert!(Some(asked) <= after.lowest(), "what is behind a position is not read from further on");
        let behind = |position| entries.partition_point(|entry| entry.position <= position);
        let is_beyond = |position| behind(position) == entries.len() && history.more && asked < position;
        let (mut resumed, mut lost) = (None, Vec::new());
        for position in after.iter() {
            let judged = match resumed {
                _ if position > top => Err(GapReason::UnknownPosition),
                // What follows the lower position without a hole also follows this one.
                None if !is_beyond(position) => continues(position, history, &entries[behind(position)..]),
                _ => check_position(position, history),
            };
            match judged {
                Ok(()) => resumed = resumed.or(Some(position)),
                Err(GapReason::Expired) if !keeps_history => lost.push((position, GapReason::NoHistory)),
                Err(reason) => lost.push((position, reason)),
            }
        }
        let upto = top.min(history.top);
        let begins = resumed.unwrap_or(upto);
        let lost: Vec<_> = lost.into_iter().map(|(after, reason)| Gap::new(Some(after), begins, reason)).collect();
        let Some(resumed) = resumed else { return Some(Self::at(upto, None, lost)) };
        if is_beyond(resumed) {
            return (!lost.is_empty()).then(|| Self { more: true, ..Self::at(resumed, Some(resumed), lost) });
        }
        let begin = behind(resumed);
        let own = &entries[begin..];
        let count = own.partition_point(|entry| entry.position <= top);
        let more = history.more && count == own.len();
        let last = own[..count].last().map(|entry| entry.position);
        let (start, entries) = (Start::Resumed, Entries::new(entries, begin, count));
        Some(match last {
            Some(last) if more && last < top => Self { start, lost, entries, upto: last, more },
            _ => Self { start, lost, entries, upto, more: false },
        })
    }

    /// A page without entries: it begins at a position that is honoured, at the newest one if none was given, or after
    /// gaps.
    fn at(upto: Position, resumed: Option<Position>, mut lost: Vec<Gap>) -> Self {
        let start = match resumed {
            Some(_) => Start::Resumed,
            None if lost.is_empty() => Start::Fresh,
            None => Start::Gap(lost.remove(0)),
        };
        Self { start, lost, entries: Entries::default(), upto, more: false }
    }
}
