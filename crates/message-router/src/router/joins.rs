//! PURE. Who waits to join one scope, and what is read for them.

use wire::{GapReason, Position, Scope};

use super::output::{Joined, Joiner, Output, Start};
use super::shard::ShardIndex;
use crate::broker::{Entry, History, Ticket};
use crate::history::{Gap, judge};

/// How often a history is asked for on behalf of joiners before they are told that it cannot be read.
const READ_ATTEMPTS_MAX: u8 = 8;

/// The joiners of one scope that have no answer yet. Most scopes have none most of the time.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Until the scope is live, or has caught up with the position they gave.
    pub(crate) waiting: Vec<Waiting>,
    /// Questions behind positions that joiners gave.
    pub(crate) reads: Vec<JoinRead>,
}

/// One joiner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) shard: ShardIndex,
    pub(crate) joiner: Joiner,
    pub(crate) after: Option<Position>,
    /// The interim answer has been given.
    pub(crate) is_told: bool,
    /// The scope's history was asked for after it joined: if its position is still unknown then, it is wrong.
    pub(crate) is_confirmed: bool,
    /// How far the scope had been handed on when it joined. Its answer must not end before.
    pub(crate) seen: Option<Position>,
}

/// One question, and everybody who gave the same position.
#[derive(Debug)]
pub(crate) struct JoinRead {
    pub(crate) ticket: Ticket,
    pub(crate) after: Position,
    /// How often it has been asked.
    pub(crate) attempts: u8,
    pub(crate) joiners: Vec<Waiting>,
}

impl Waiting {
    /// The final answer.
    pub(crate) fn answer(self, scope: &Scope, page: Page, out: &mut Vec<Output>) {
        let Page { start, entries, upto, more } = page;
        let joined = Joined { scope: scope.clone(), start, entries, upto: Some(upto), more };
        out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
    }

    /// The answer of one who stands where the scope stands, or gave no position.
    pub(crate) fn answer_at(self, scope: &Scope, top: Position, out: &mut Vec<Output>) {
        let start = if self.after.is_some() { Start::Resumed } else { Start::Fresh };
        self.answer(scope, Page { start, entries: Vec::new(), upto: top, more: false }, out);
    }

    /// The answer of one whose position cannot be honoured.
    pub(crate) fn answer_gap(self, scope: &Scope, upto: Position, reason: GapReason, out: &mut Vec<Output>) {
        let start = Start::Gap(Gap::new(self.after, upto, reason));
        self.answer(scope, Page { start, entries: Vec::new(), upto, more: false }, out);
    }

    /// The interim answer, once.
    pub(crate) fn tell_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_told, true) {
            let joined =
                Joined { scope: scope.clone(), start: Start::Degraded, entries: Vec::new(), upto: None, more: false };
            out.push(Output::Joined { shard: self.shard, joiner: self.joiner, joined });
        }
    }
}

impl Joins {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.reads.is_empty()
    }

    /// A question in flight behind the same position answers this joiner too.
    pub(crate) fn share(&mut self, waiting: Waiting) -> bool {
        match self.reads.iter_mut().find(|read| Some(read.after) == waiting.after) {
            Some(read) => read.joiners.push(waiting),
            None => return false,
        }
        true
    }

    pub(crate) fn take_read(&mut self, ticket: Ticket) -> Option<JoinRead> {
        let index = self.reads.iter().position(|read| read.ticket == ticket)?;
        Some(self.reads.swap_remove(index))
    }

    /// The last member on `shard` left; nobody there waits any more. A question that nobody waits for is
    /// answered to nobody.
    pub(crate) fn leave(&mut self, shard: ShardIndex) {
        self.waiting.retain(|waiting| waiting.shard != shard);
        for read in &mut self.reads {
            read.joiners.retain(|waiting| waiting.shard != shard);
        }
    }

    /// The scope was moved on over a gap. Nobody was handed what lies in it, so an answer that ends before would
    /// leave its joiner with a hole.
    pub(crate) fn see(&mut self, upto: Position) {
        for waiting in self.reads.iter_mut().flat_map(|read| &mut read.joiners) {
            waiting.seen = Some(upto);
        }
    }

    /// The broker was lost: everybody waits for it to come back.
    pub(crate) fn lose(&mut self) {
        for read in self.reads.drain(..) {
            self.waiting.extend(read.joiners);
        }
    }

    pub(crate) fn tell_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        for waiting in &mut self.waiting {
            waiting.tell_degraded(scope, out);
        }
    }
}

impl JoinRead {
    pub(crate) fn is_exhausted(&self) -> bool {
        self.attempts >= READ_ATTEMPTS_MAX
    }
}

/// One answer's worth of catching up.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) start: Start,
    pub(crate) entries: Vec<Entry>,
    pub(crate) upto: Position,
    pub(crate) more: bool,
}

impl Page {
    /// What one who stands at `after` is owed of `history` (read behind `after`), on a scope that has been handed
    /// on up to `top`. It ends at `top` at the latest: what is behind it comes live.
    ///
    /// `top` and the history's top must be of one generation.
    pub(crate) fn new(after: Position, history: &History, top: Position, keeps_history: bool) -> Self {
        debug_assert_eq!(top.generation, history.top.generation, "top and history are of one generation");
        let upto = top.min(history.top);
        let gap = |reason| Start::Gap(Gap::new(Some(after), upto, reason));
        let start = match judge(after, history) {
            Ok(()) => Start::Resumed,
            Err(GapReason::Expired) if !keeps_history => gap(GapReason::NoHistory),
            Err(reason) => gap(reason),
        };
        if start != Start::Resumed {
            return Self { start, entries: Vec::new(), upto, more: false };
        }
        let entries: Vec<Entry> = history.entries.iter().take_while(|e| e.position <= top).cloned().collect();
        let more = history.more && entries.len() == history.entries.len();
        match entries.last().map(|entry| entry.position) {
            Some(last) if more && last < top => Self { start, entries, upto: last, more },
            _ => Self { start, entries, upto, more: false },
        }
    }
}
