//! PURE. Who waits to join one scope, and what is read for them.
//!
//! ```text
//!   waiting ──(scope is live)──▶ queued ──▶ read: one at a time, behind the lowest position in reach ──▶ answered,
//!      ▲                           ▲                                  each by what lies behind its own position
//!      └──── broker lost ──────────┴── the answer was too old, or ended before
//! ```

use std::sync::Arc;

use wire::{GapReason, Position, Scope};

use super::output::{Joined, Joiner, Output, Start};
use super::positions::Positions;
use super::shard::ShardIndex;
use crate::broker::{Entry, History, Ticket};
use crate::history::{Entries, Gap, check_position, continues};

/// How often a history is asked for on behalf of a joiner before it is told that it cannot be read.
const READ_ATTEMPTS_MAX: u8 = 8;

/// The joiners of one scope that have no answer yet. Most scopes have none most of the time.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Until the scope is live, or has caught up with the position they gave.
    pub(crate) waiting: Vec<WaitingJoiner>,
    /// Behind the scope, for the next question. In the order they came, but for those who are asked for again.
    queued: Vec<WaitingJoiner>,
    /// The question in flight, or waiting to be asked again. One, however many join: so many clients that come back
    /// at once cost a few reads, and a scope has at most two in flight, with the stream's own.
    read: Option<JoinRead>,
}

/// One joiner.
#[derive(Debug)]
pub(crate) struct WaitingJoiner {
    pub(crate) shard: ShardIndex,
    pub(crate) joiner: Joiner,
    pub(crate) after: Positions,
    /// The interim answer has been given.
    pub(crate) got_degraded: bool,
    /// The scope's history was asked for after it joined: a position that is still unknown then is wrong.
    pub(crate) is_confirmed: bool,
    /// A page ended before its positions: the next question for it is asked behind the lowest.
    is_passed_over: bool,
    /// How often it was asked for in vain.
    attempts: u8,
    /// How far the scope had been handed on when it joined. Its answer must not end before.
    pub(crate) seen: Option<Position>,
}

/// One question, and everybody it may answer.
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

    /// The final answer.
    pub(crate) fn answer(self, scope: &Scope, page: Page, out: &mut Vec<Output>) {
        let Page { start, lost, entries, upto, more } = page;
        let joined = Joined { scope: scope.clone(), start, lost, entries, upto: Some(upto), more };
        out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
    }

    /// The answer of one who begins where the scope stands: a position elsewhere cannot be honoured, for this reason.
    pub(crate) fn answer_at(self, scope: &Scope, top: Position, reason: GapReason, out: &mut Vec<Output>) {
        let elsewhere = self.after.iter().filter(|position| *position != top);
        let lost = elsewhere.map(|position| Gap::new(Some(position), top, reason)).collect();
        let resumed = self.after.iter().find(|position| *position == top);
        self.answer(scope, Page::at(top, resumed, lost), out);
    }

    /// The interim answer, once.
    pub(crate) fn send_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.got_degraded, true) {
            let entries = Entries::default();
            let (start, lost, upto) = (Start::Degraded, Vec::new(), None);
            let joined = Joined { scope: scope.clone(), start, lost, entries, upto, more: false };
            out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
        }
    }

    /// Notes that a question for it was in vain; whether it was the last.
    pub(crate) fn is_exhausted_by_one_more(&mut self) -> bool {
        self.attempts += 1;
        self.attempts >= READ_ATTEMPTS_MAX
    }

    /// A page ended before its positions.
    pub(crate) fn pass_over(mut self) -> Self {
        self.is_passed_over = true;
        self
    }

    /// Whether a page of `reach` entries behind `after` holds what follows its lowest position, if no entry is large.
    fn is_in_reach(&self, after: Position, reach: u64) -> bool {
        let Some(own) = self.after.lowest() else { return false };
        own >= after && (own.generation != after.generation || own.offset - after.offset < reach)
    }
}

impl Joins {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.queued.is_empty() && self.read.is_none()
    }

    /// One who has a position behind the scope. A question that is in flight may answer it too.
    pub(crate) fn queue(&mut self, waiting: WaitingJoiner, reach: u64) {
        match &mut self.read {
            Some(read) if waiting.is_in_reach(read.after, reach) => read.joiners.push(waiting),
            _ => self.queued.push(waiting),
        }
    }

    /// These were not answered by their question, and come first.
    pub(crate) fn queue_again(&mut self, joiners: impl IntoIterator<Item = WaitingJoiner>) {
        self.queued.splice(..0, joiners);
    }

    /// Behind which position to ask next: that of who waits longest, or the lowest from which a page still reaches
    /// it. Nothing while a question is in flight, or nobody waits.
    pub(crate) fn next_after(&self, reach: u64) -> Option<Position> {
        let first = self.queued.first().filter(|_| self.read.is_none())?;
        if first.is_passed_over {
            return first.after.lowest();
        }
        let generation = first.after.lowest()?.generation;
        let reaches = |after: &Position| after.generation == generation && first.is_in_reach(*after, reach);
        self.queued.iter().filter_map(|waiting| waiting.after.lowest()).filter(reaches).min()
    }

    /// The question was asked, for everybody in reach.
    pub(crate) fn asked(&mut self, ticket: Ticket, after: Position, reach: u64) {
        debug_assert!(self.read.is_none(), "one question at a time");
        let joiners = self.queued.extract_if(.., |waiting| waiting.is_in_reach(after, reach)).collect();
        self.read = Some(JoinRead { ticket, after, joiners });
    }

    pub(crate) fn take_read(&mut self, ticket: Ticket) -> Option<JoinRead> {
        self.read.take_if(|read| read.ticket == ticket)
    }

    /// The name of the question in flight, or waiting to be asked again.
    pub(crate) fn question(&self) -> Option<Ticket> {
        self.read.as_ref().map(|read| read.ticket)
    }

    /// The question failed and is to be asked again. Returns those for whom that is once too often.
    pub(crate) fn failed(&mut self, mut read: JoinRead) -> Vec<WaitingJoiner> {
        let exhausted = read.joiners.extract_if(.., WaitingJoiner::is_exhausted_by_one_more).collect();
        self.read = Some(read).filter(|read| !read.joiners.is_empty());
        exhausted
    }

    /// The last member on `shard` left; nobody there waits any more. A question that nobody waits for is
    /// answered to nobody.
    pub(crate) fn leave(&mut self, shard: ShardIndex) {
        for joiners in self.all() {
            joiners.retain(|waiting| waiting.shard != shard);
        }
    }

    /// The scope was moved on over a gap. Nobody was handed what lies in it, so an answer that ends before would
    /// leave its joiner with a hole.
    pub(crate) fn see(&mut self, upto: Position) {
        self.queued.iter_mut().for_each(|waiting| waiting.seen = Some(upto));
        if let Some(read) = &mut self.read {
            read.joiners.iter_mut().for_each(|waiting| waiting.seen = Some(upto));
        }
    }

    /// The broker was lost: everybody waits for it to come back.
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

/// One answer's worth of catching up.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) start: Start,
    pub(crate) lost: Vec<Gap>,
    pub(crate) entries: Entries,
    pub(crate) upto: Position,
    pub(crate) more: bool,
}

impl Page {
    /// What one who stands at `after` is owed of `entries` (read behind `asked`, at or before the lowest position), on a
    /// scope that has been handed on up to `top`. It ends at `top` at the latest: what is behind it comes live. None when
    /// the entries end before they come to `after`.
    ///
    /// Those whose position is lost go on behind the lowest that is not: what follows is read in any case.
    ///
    /// The entries of `history` stand in `entries`; its top and `top` must be of one generation.
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
                // What follows the lower one without a hole follows this one too.
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

    /// Nothing but where one begins: there, if a position of its own is honoured or it gave none, else behind gaps.
    fn at(upto: Position, resumed: Option<Position>, mut lost: Vec<Gap>) -> Self {
        let start = match resumed {
            Some(_) => Start::Resumed,
            None if lost.is_empty() => Start::Fresh,
            None => Start::Gap(lost.remove(0)),
        };
        Self { start, lost, entries: Entries::default(), upto, more: false }
    }
}
