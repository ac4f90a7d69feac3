//! PURE. One scope: which shards want it, how far they have been handed it, and who waits to join.

use bytes::Bytes;
use wire::{GapReason, Position, Scope};

use super::RouterConfig;
use super::counts::RouterCounts;
use super::joins::{JoinRead, Joins, Page, Waiting};
use super::output::{Joiner, Output};
use super::reads::Reads;
use super::shard::{ShardIndex, ShardSet};
use crate::broker::{BrokerError, Command, History, Ticket};
use crate::stream::{Absorbed, Heard, Release, Stream};

/// What the router knows of one scope.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// Those with members.
    pub(crate) shards: ShardSet,
    pub(crate) stream: Stream,
    joins: Option<Box<Joins>>,
    /// Since when no shard wants it.
    pub(crate) idle_since_ms: u64,
    /// It has a place in the queue of scopes to be unsubscribed.
    pub(crate) is_lingering: bool,
    /// The end of the outage waits for it.
    pub(crate) is_resyncing: bool,
}

// The budget of an idle connection in a scope of its own is 2 KiB; this and its key are in it.
const _: () = assert!(size_of::<(Scope, Interest)>() <= 96);

/// What a scope needs of the router to think, for the length of one call.
pub(crate) struct Desk<'a> {
    pub(crate) config: &'a RouterConfig,
    pub(crate) reads: &'a mut Reads,
    pub(crate) counts: &'a mut RouterCounts,
    pub(crate) out: &'a mut Vec<Output>,
}

impl Desk<'_> {
    fn keeps_history(&self, scope: &Scope) -> bool {
        self.config.policies.policy(scope.family()).history_entries_max > 0
    }

    fn read(&mut self, scope: &Scope, after: Option<Position>) -> Ticket {
        self.reads.ask(scope, after, self.config.page_entries_max, self.out)
    }
}

impl Interest {
    pub(crate) fn join(
        &mut self,
        shard: ShardIndex,
        joiner: Joiner,
        scope: &Scope,
        after: Option<Position>,
        desk: &mut Desk<'_>,
    ) {
        self.shards.insert(shard);
        let seen = self.stream.top();
        let waiting = Waiting { shard, joiner, after, is_told: false, is_confirmed: false, seen };
        match self.stream.live() {
            // The common case, without a box.
            Some(top) if after.is_none_or(|after| after == top) => waiting.answer_at(scope, top, desk.out),
            _ => {
                self.joins.get_or_insert_default().waiting.push(waiting);
                self.settle(scope, desk);
            }
        }
    }

    /// No member is left on `shard`. Returns whether no shard wants the scope any more.
    pub(crate) fn leave(&mut self, shard: ShardIndex) -> bool {
        self.shards.remove(shard);
        if let Some(joins) = &mut self.joins {
            joins.leave(shard);
        }
        self.shards.is_empty()
    }

    pub(crate) fn subscribe(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        self.stream.subscribe();
        out.push(Output::Command(Command::Subscribe(scope.clone())));
    }

    /// The broker confirmed it. What was handed on last is where repair begins; without it, the position of
    /// the first joiner, so that one question does for both.
    pub(crate) fn subscribed(&mut self, scope: &Scope, desk: &mut Desk<'_>) {
        if self.stream.is_subscribing() {
            let first = self.joins.as_ref().and_then(|joins| joins.waiting.first());
            let after = self.stream.top().or_else(|| first.and_then(|waiting| waiting.after));
            self.ask(scope, after, desk);
        }
    }

    pub(crate) fn hear(
        &mut self,
        scope: &Scope,
        first: Position,
        last: Position,
        envelope: Bytes,
        desk: &mut Desk<'_>,
    ) {
        match self.stream.hear(first, last, &envelope, desk.config.held_bytes_max) {
            Heard::Deliver { after } => self.deliver(scope, envelope, after, desk.out),
            Heard::Old => desk.counts.duplicates += 1,
            Heard::Held => {}
            Heard::Hole { after } => {
                desk.counts.holes += 1;
                self.ask(scope, Some(after), desk);
            }
        }
    }

    /// A question about this scope was answered. Questions nobody waits for are not.
    pub(crate) fn answered(
        &mut self,
        scope: &Scope,
        ticket: Ticket,
        result: Result<History, BrokerError>,
        now_ms: u64,
        desk: &mut Desk<'_>,
    ) {
        let question = self.stream.question().filter(|(asked, _)| *asked == ticket);
        let read = self.joins.as_mut().and_then(|joins| joins.take_read(ticket));
        match (question, read, result) {
            (Some((_, after)), _, Ok(history)) => self.absorb(scope, after, history, desk),
            (Some(_), _, Err(_)) => {
                desk.counts.reads_failed += 1;
                desk.reads.failed(ticket, scope, now_ms);
                if let Some(joins) = &mut self.joins {
                    joins.tell_degraded(scope, desk.out);
                }
            }
            (None, Some(read), Ok(history)) => self.catch_up(scope, read, &history, desk),
            (None, Some(read), Err(_)) => {
                desk.counts.reads_failed += 1;
                if let Some(read) = self.give_up(scope, read, desk) {
                    desk.reads.failed(ticket, scope, now_ms);
                    self.joins.get_or_insert_default().reads.push(read);
                }
            }
            (None, None, _) => {}
        }
        self.settle(scope, desk);
    }

    /// A failed question's time has come.
    pub(crate) fn ask_again(&mut self, scope: &Scope, ticket: Ticket, desk: &mut Desk<'_>) {
        if let Some((_, after)) = self.stream.question().filter(|(asked, _)| *asked == ticket) {
            self.ask(scope, after, desk);
        } else if let Some(mut read) = self.joins.as_mut().and_then(|joins| joins.take_read(ticket)) {
            read.ticket = desk.read(scope, Some(read.after));
            read.attempts += 1;
            self.joins.get_or_insert_default().reads.push(read);
        }
    }

    /// The broker was lost.
    pub(crate) fn lose(&mut self) {
        self.stream.lose();
        self.is_lingering = false;
        self.is_resyncing = false;
        if let Some(joins) = &mut self.joins {
            joins.lose();
        }
    }

    pub(crate) fn has_joiners(&self) -> bool {
        self.joins.is_some()
    }

    pub(crate) fn tell_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        if let Some(joins) = &mut self.joins {
            joins.tell_degraded(scope, out);
        }
    }

    /// The questions in flight, when the scope is given up.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Ticket> {
        let reads = self.joins.iter().flat_map(|joins| joins.reads.iter().map(|read| read.ticket));
        self.stream.question().map(|(ticket, _)| ticket).into_iter().chain(reads)
    }

    fn deliver(&self, scope: &Scope, envelope: Bytes, after: Position, out: &mut Vec<Output>) {
        if !self.shards.is_empty() {
            out.push(Output::Deliver { shards: self.shards, scope: scope.clone(), envelope, after });
        }
    }

    /// Reads the history, and holds what is heard meanwhile.
    fn ask(&mut self, scope: &Scope, after: Option<Position>, desk: &mut Desk<'_>) {
        let ticket = desk.read(scope, after);
        self.stream.ask(ticket, after);
        if let Some(joins) = &mut self.joins {
            joins.waiting.iter_mut().for_each(|waiting| waiting.is_confirmed = true);
        }
    }

    /// The history that the stream waits for arrived.
    fn absorb(&mut self, scope: &Scope, after: Option<Position>, history: History, desk: &mut Desk<'_>) {
        let keeps_history = desk.keeps_history(scope);
        match self.stream.absorb(&history, keeps_history) {
            Absorbed::First => self.answer_first(scope, after, &history, keeps_history, desk.out),
            Absorbed::Missed { more } => {
                desk.counts.repaired += history.entries.len() as u64;
                if !history.entries.is_empty() && !self.shards.is_empty() {
                    let (shards, entries) = (self.shards, history.entries);
                    desk.out.push(Output::Replay { shards, scope: scope.clone(), entries });
                }
                if more {
                    return self.ask(scope, self.stream.top(), desk);
                }
            }
            Absorbed::Broken(gap) => {
                desk.counts.gaps += 1;
                if !self.shards.is_empty() {
                    desk.out.push(Output::Gap { shards: self.shards, scope: scope.clone(), gap });
                }
                if let Some(joins) = &mut self.joins {
                    joins.see(gap.upto);
                }
            }
        }
        self.release(scope, desk);
    }

    /// The first history of a scope says where it begins, and answers whoever begins there or gave the position
    /// it was read behind. Before what was held: their answer is queued first.
    fn answer_first(
        &mut self,
        scope: &Scope,
        asked: Option<Position>,
        history: &History,
        keeps_history: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(joins) = &mut self.joins else { return };
        let top = history.top;
        let page = asked.map(|asked| Page::new(asked, history, top, keeps_history));
        joins.waiting.retain(|waiting| {
            // One who came after the question was asked may know more than the answer does.
            let is_answered = waiting.is_confirmed || waiting.after <= Some(top);
            match &page {
                _ if waiting.after.is_none_or(|after| after == top) => waiting.answer_at(scope, top, out),
                Some(page) if waiting.after == asked && is_answered => waiting.answer(scope, page.clone(), out),
                _ => return true,
            }
            false
        });
    }

    /// Hands on what was held, up to the next hole.
    fn release(&mut self, scope: &Scope, desk: &mut Desk<'_>) {
        loop {
            match self.stream.release() {
                Release::Deliver { envelope, after } => self.deliver(scope, envelope, after, desk.out),
                Release::Ghost => desk.counts.ghosts += 1,
                Release::Hole { after } => return self.ask(scope, Some(after), desk),
                Release::Live => return,
            }
        }
    }

    /// Answers whoever can be answered, now that the scope is live.
    fn settle(&mut self, scope: &Scope, desk: &mut Desk<'_>) {
        let (Some(top), Some(joins)) = (self.stream.live(), &mut self.joins) else { return };
        let mut ahead = Vec::new();
        for mut waiting in std::mem::take(&mut joins.waiting) {
            waiting.seen = Some(top);
            match waiting.after {
                Some(after) if after < top => {
                    if !joins.share(waiting) {
                        let ticket = desk.read(scope, Some(after));
                        joins.reads.push(JoinRead { ticket, after, attempts: 1, joiners: vec![waiting] });
                    }
                }
                Some(after) if after > top && !waiting.is_confirmed => ahead.push(waiting),
                Some(after) if after > top => {
                    waiting.answer_gap(scope, top, GapReason::UnknownPosition, desk.out);
                }
                Some(_) | None => waiting.answer_at(scope, top, desk.out),
            }
        }
        // It has seen more elsewhere than has arrived here: the history says whether that can be.
        let must_ask = !ahead.is_empty();
        joins.waiting = ahead;
        if must_ask {
            self.ask(scope, Some(top), desk);
        } else if joins.is_empty() {
            self.joins = None;
        }
    }

    /// A history for joiners arrived.
    fn catch_up(&mut self, scope: &Scope, read: JoinRead, history: &History, desk: &mut Desk<'_>) {
        let top = self.stream.top().expect("nobody catches up with a scope that was never live");
        if history.top.generation > top.generation {
            // A failover that the stream has not heard of yet: it comes first.
            self.joins.get_or_insert_default().waiting.extend(read.joiners);
            if self.stream.live().is_some() {
                self.ask(scope, Some(top), desk);
            }
            return;
        }
        let is_stale = |waiting: &Waiting| Some(history.top) < waiting.seen || history.top.generation < top.generation;
        let (stale, ready): (Vec<_>, Vec<_>) = read.joiners.into_iter().partition(is_stale);
        if !ready.is_empty() {
            let page = Page::new(read.after, history, top, desk.keeps_history(scope));
            ready.into_iter().for_each(|waiting| waiting.answer(scope, page.clone(), desk.out));
        }
        // Asked before these joined, and answered before what their shard had heard by then: ask for them anew.
        let read = JoinRead { joiners: stale, ..read };
        if let Some(mut read) = self.give_up(scope, read, desk) {
            read.ticket = desk.read(scope, Some(read.after));
            read.attempts += 1;
            self.joins.get_or_insert_default().reads.push(read);
        }
    }

    /// Gives the question back, if somebody waits for it and it may be asked again.
    fn give_up(&mut self, scope: &Scope, read: JoinRead, desk: &mut Desk<'_>) -> Option<JoinRead> {
        if !read.is_exhausted() {
            return (!read.joiners.is_empty()).then_some(read);
        }
        for waiting in read.joiners {
            let upto = self.stream.top().or(waiting.seen).unwrap_or(read.after);
            waiting.answer_gap(scope, upto, GapReason::Unreadable, desk.out);
        }
        None
    }
}
