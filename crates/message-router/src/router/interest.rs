//! PURE. The state of one scope: which shards need it, how far they have received it, and which joiners wait.

use bytes::Bytes;
use wire::{GapReason, Position, Scope};

use super::RouterConfig;
use super::counts::RouterCounts;
use super::joins::{JoinRead, Joins, Page, WaitingJoiner};
use super::output::{Joiner, Output};
use super::positions::Positions;
use super::reads::Reads;
use super::shard::{ShardIndex, ShardSet};
use crate::broker::{BrokerError, Command, History, Ticket};
use crate::history::Gap;
use crate::stream::{Absorbed, EnvelopeAction, Release, Stream};

/// The state of one scope in the router.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// The shards with members in the scope.
    pub(crate) shards: ShardSet,
    pub(crate) stream: Stream,
    joins: Option<Box<Joins>>,
    /// Time since when no shard needs the scope.
    pub(crate) idle_since_ms: u64,
    /// The scope is in the queue of scopes to be unsubscribed.
    pub(crate) is_lingering: bool,
    /// The degraded state lasts until this scope is repaired.
    pub(crate) is_resyncing: bool,
    /// Number of fences in flight: subscribes of a scope that is subscribed already.
    pub(crate) fences: u8,
    /// Distinguishes it from an earlier interest in the same scope.
    pub(crate) mark: u32,
}

// An idle connection in a scope of its own has a budget of 2 KiB, which includes this struct and its key.
const _: () = assert!(size_of::<(Scope, Interest)>() <= 96);

/// The parts of the router that a scope uses during one call.
pub(crate) struct RouterContext<'a> {
    pub(crate) config: &'a RouterConfig,
    pub(crate) reads: &'a mut Reads,
    pub(crate) counts: &'a mut RouterCounts,
    pub(crate) out: &'a mut Vec<Output>,
}

impl RouterContext<'_> {
    fn keeps_history(&self, scope: &Scope) -> bool {
        self.config.policies.policy(scope.family()).history_entries_max > 0
    }

    /// Number of messages that one read returns, if none of them is large.
    fn reach(&self) -> u64 {
        self.config.page_entries_max as u64
    }

    fn read(&mut self, scope: &Scope, after: Option<Position>) -> Ticket {
        self.reads.ask(scope, after, self.config.page_entries_max, self.out)
    }
}

impl Interest {
    pub(crate) fn new(mark: u32) -> Self {
        Self { mark, ..Self::default() }
    }

    pub(crate) fn join(
        &mut self,
        shard: ShardIndex,
        joiner: Joiner,
        scope: &Scope,
        after: Positions,
        context: &mut RouterContext<'_>,
    ) {
        self.shards.insert(shard);
        let seen = self.stream.top();
        let waiting = WaitingJoiner::new(shard, joiner, after, seen);
        match self.stream.live() {
            // The common case needs no allocation.
            Some(top) if waiting.after.are_at(top) => {
                waiting.answer_at(scope, top, GapReason::UnknownPosition, context.out)
            }
            _ => {
                self.joins.get_or_insert_default().waiting.push(waiting);
                self.settle(scope, context);
            }
        }
    }

    /// No member is left on `shard`. Returns whether no shard needs the scope any more.
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

    /// The broker confirmed a subscribe. The repair begins after the last position that was handed on. If there is
    /// none, it begins after the position of the first joiner, so that one read serves both.
    ///
    /// `checked` is the broker's position that was noted when a fence was sent.
    pub(crate) fn subscribed(&mut self, scope: &Scope, checked: Option<Position>, context: &mut RouterContext<'_>) {
        if self.stream.is_subscribing() {
            let first = self.joins.as_ref().and_then(|joins| joins.waiting.first());
            let after = self.stream.top().or_else(|| first.and_then(|waiting| waiting.after.lowest()));
            self.ask(scope, after, context);
            return;
        }
        self.fences = self.fences.saturating_sub(1);
        if self.fences > 0 {
            return;
        }
        if let Some(history) = self.stream.take_unjudged() {
            self.absorb(scope, self.stream.top(), history, true, context);
            self.settle(scope, context);
        } else if self.stream.live().is_some_and(|top| checked > Some(top)) {
            self.repair(scope, context);
        }
    }

    /// Subscribes a subscribed scope once more. Every message that has been published until now arrives before the
    /// confirmation, or never.
    pub(crate) fn fence(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        self.fences = self.fences.saturating_add(1);
        out.push(Output::Command(Command::Subscribe(scope.clone())));
    }

    /// Reads the history because the broker's position differs and no message under way explains it.
    pub(crate) fn repair(&mut self, scope: &Scope, context: &mut RouterContext<'_>) {
        context.counts.check_holes += 1;
        let top = self.stream.top();
        self.stream.check();
        self.ask(scope, top, context);
    }

    pub(crate) fn receive(
        &mut self,
        scope: &Scope,
        first: Position,
        last: Position,
        envelope: Bytes,
        context: &mut RouterContext<'_>,
    ) {
        match self.stream.receive(first, last, &envelope, context.config.held_bytes_max) {
            EnvelopeAction::Deliver { after } => self.deliver(scope, envelope, after, context.out),
            EnvelopeAction::Old => context.counts.duplicates += 1,
            EnvelopeAction::Buffered => {}
            EnvelopeAction::Hole { after } => {
                context.counts.holes += 1;
                self.ask(scope, Some(after), context);
            }
        }
    }

    /// A read for this scope was answered. Answers that nobody waits for are ignored.
    pub(crate) fn answered(
        &mut self,
        scope: &Scope,
        ticket: Ticket,
        result: Result<History, BrokerError>,
        now_ms: u64,
        context: &mut RouterContext<'_>,
    ) {
        let question = self.stream.question().filter(|(asked, _)| *asked == ticket);
        let read = self.joins.as_mut().and_then(|joins| joins.take_read(ticket));
        match (question, read, result) {
            (Some((_, after)), _, Ok(history)) => self.absorb(scope, after, history, false, context),
            (Some(_), _, Err(_)) => {
                context.counts.reads_failed += 1;
                context.reads.failed(ticket, scope, now_ms);
                if let Some(joins) = &mut self.joins {
                    joins.send_degraded(scope, context.out);
                }
            }
            (None, Some(read), Ok(history)) => self.catch_up(scope, read, history, context),
            (None, Some(read), Err(_)) => {
                context.counts.reads_failed += 1;
                let joins = self.joins.get_or_insert_default();
                let exhausted = joins.failed(read);
                if joins.question().is_some() {
                    context.reads.failed(ticket, scope, now_ms);
                }
                self.give_up(scope, exhausted, context.out);
            }
            (None, None, _) => {}
        }
        self.settle(scope, context);
    }

    /// The broker has recorded the loss that this instance saw. Its history now shows it to every instance.
    pub(crate) fn loss_noted(
        &mut self,
        scope: &Scope,
        ticket: Ticket,
        is_noted: bool,
        now_ms: u64,
        context: &mut RouterContext<'_>,
    ) {
        if self.stream.question().is_none_or(|(asked, _)| asked != ticket) {
            return;
        }
        if !is_noted {
            return context.reads.failed(ticket, scope, now_ms);
        }
        self.stream.loss_noted();
        self.ask(scope, self.stream.top(), context);
    }

    /// The time has come to repeat a failed request. A first read is repeated without the position of its joiner: others
    /// wait for the scope too, and one position must not keep it from them.
    pub(crate) fn ask_again(&mut self, scope: &Scope, ticket: Ticket, context: &mut RouterContext<'_>) {
        if let Some(position) = self.stream.noting(ticket) {
            self.note_loss(scope, position, context);
        } else if self.stream.question().is_some_and(|(asked, _)| asked == ticket) {
            self.ask(scope, self.stream.top(), context);
        } else if let Some(joins) = &mut self.joins
            && let Some(read) = joins.take_read(ticket)
        {
            joins.queue_again(read.joiners);
            self.read_next(scope, context);
        }
    }

    /// The broker was lost.
    pub(crate) fn lose_broker(&mut self) {
        self.lose();
        self.fences = 0;
        self.is_lingering = false;
        self.is_resyncing = false;
    }

    /// The subscription has ended. Joiners wait until it is confirmed again.
    pub(crate) fn lose(&mut self) {
        self.stream.lose();
        if let Some(joins) = &mut self.joins {
            joins.lose();
        }
    }

    pub(crate) fn has_joiners(&self) -> bool {
        self.joins.is_some()
    }

    pub(crate) fn send_degraded(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        if let Some(joins) = &mut self.joins {
            joins.send_degraded(scope, out);
        }
    }

    /// The requests in flight; for a scope that is removed or lost.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Ticket> {
        let read = self.joins.iter().filter_map(|joins| joins.question());
        self.stream.question().map(|(ticket, _)| ticket).into_iter().chain(read)
    }

    fn deliver(&self, scope: &Scope, envelope: Bytes, after: Position, out: &mut Vec<Output>) {
        if !self.shards.is_empty() {
            out.push(Output::Deliver { shards: self.shards, scope: scope.clone(), envelope, after });
        }
    }

    /// Reads the history. Messages that arrive meanwhile are held.
    fn ask(&mut self, scope: &Scope, after: Option<Position>, context: &mut RouterContext<'_>) {
        let ticket = context.read(scope, after);
        self.stream.ask(ticket, after);
        if let Some(joins) = &mut self.joins {
            joins.waiting.iter_mut().for_each(|waiting| waiting.is_confirmed = true);
        }
    }

    /// The history that the stream waits for has arrived.
    fn absorb(
        &mut self,
        scope: &Scope,
        after: Option<Position>,
        history: History,
        is_fenced: bool,
        context: &mut RouterContext<'_>,
    ) {
        let (keeps_history, is_check) = (context.keeps_history(scope), self.stream.is_check());
        match self.stream.absorb(&history, keeps_history, is_fenced) {
            Absorbed::Early => return self.fence(scope, context.out),
            Absorbed::First => self.answer_first(scope, after, history, keeps_history, context),
            Absorbed::Missed { more } => {
                let count = history.entries.len() as u64;
                context.counts.repaired += count;
                context.counts.check_repaired += if is_check { count } else { 0 };
                if count > 0 && !self.shards.is_empty() {
                    let (shards, scope, entries) = (self.shards, scope.clone(), history.entries);
                    context.out.push(Output::Replay { shards, scope, entries });
                }
                if more {
                    return self.ask(scope, self.stream.top(), context);
                }
            }
            Absorbed::Lost(position) => return self.note_loss(scope, position, context),
            Absorbed::Broken(gap) => self.break_off(scope, gap, context),
        }
        self.release(scope, context);
    }

    /// A message that was handed on is lost. The broker is informed before any gap is sent: from the first gap on,
    /// clients that were away get a gap too, on whichever instance they resume.
    fn note_loss(&mut self, scope: &Scope, position: Position, context: &mut RouterContext<'_>) {
        let ticket = context.reads.note_loss(scope, position, context.out);
        self.stream.note_loss(ticket, position);
    }

    /// Reports a gap to all members of the scope.
    fn break_off(&mut self, scope: &Scope, gap: Gap, context: &mut RouterContext<'_>) {
        context.counts.gaps += 1;
        if !self.shards.is_empty() {
            context.out.push(Output::Gap { shards: self.shards, scope: scope.clone(), gap });
        }
        if let Some(joins) = &mut self.joins {
            joins.see(gap.upto);
        }
    }

    /// The first history of a scope defines where its stream begins. It answers the joiners that begin there or that
    /// gave the position after which it was read. This happens before held messages are released, so that the answers
    /// come first.
    fn answer_first(
        &mut self,
        scope: &Scope,
        asked: Option<Position>,
        mut history: History,
        keeps_history: bool,
        context: &mut RouterContext<'_>,
    ) {
        let out = &mut *context.out;
        let Some(joins) = &mut self.joins else { return };
        let top = history.top;
        let entries = std::mem::take(&mut history.entries).into();
        let page = |waiting: &WaitingJoiner| {
            // A joiner that came after the request may know a newer position than the answer does.
            let is_answered = waiting.is_confirmed || waiting.after.highest() <= Some(top);
            let asked = asked.filter(|asked| is_answered && waiting.after.lowest() == Some(*asked))?;
            Page::new(&waiting.after, asked, &history, &entries, top, keeps_history)
        };
        for waiting in std::mem::take(&mut joins.waiting) {
            if waiting.after.are_at(top) {
                waiting.answer_at(scope, top, GapReason::UnknownPosition, out);
            } else if let Some(page) = page(&waiting) {
                waiting.answer(scope, page, out);
            } else {
                joins.waiting.push(waiting);
            }
        }
    }

    /// Hands on the held messages, up to the next hole.
    fn release(&mut self, scope: &Scope, context: &mut RouterContext<'_>) {
        loop {
            match self.stream.release() {
                Release::Deliver { envelope, after } => self.deliver(scope, envelope, after, context.out),
                Release::Gap(gap) => self.break_off(scope, gap, context),
                Release::Unstored => context.counts.unstored += 1,
                Release::Hole { after } => return self.ask(scope, Some(after), context),
                Release::Live => return,
            }
        }
    }

    /// Answers the joiners that can be answered when the scope is live.
    fn settle(&mut self, scope: &Scope, context: &mut RouterContext<'_>) {
        let (Some(top), Some(joins)) = (self.stream.live(), &mut self.joins) else { return };
        let mut ahead = Vec::new();
        for mut waiting in std::mem::take(&mut joins.waiting) {
            waiting.seen = Some(top);
            if waiting.after.highest() > Some(top) && !waiting.is_confirmed {
                ahead.push(waiting);
            } else if waiting.after.lowest().is_some_and(|lowest| lowest < top) {
                joins.queue(waiting, context.reach());
            } else {
                waiting.answer_at(scope, top, GapReason::UnknownPosition, context.out);
            }
        }
        // These joiners saw a newer position on another instance: the history decides whether it is valid.
        let must_ask = !ahead.is_empty();
        joins.waiting = ahead;
        if must_ask {
            self.ask(scope, Some(top), context);
        }
        self.read_next(scope, context);
    }

    /// Reads for joiners, unless a read is in flight or no joiner waits.
    fn read_next(&mut self, scope: &Scope, context: &mut RouterContext<'_>) {
        if let Some(joins) = &mut self.joins
            && let Some(after) = joins.next_after(context.reach())
        {
            let ticket = context.read(scope, Some(after));
            joins.asked(ticket, after, context.reach());
        }
        if self.joins.as_ref().is_some_and(|joins| joins.is_empty()) {
            self.joins = None;
        }
    }

    /// A history that was read for joiners has arrived.
    fn catch_up(&mut self, scope: &Scope, read: JoinRead, mut history: History, context: &mut RouterContext<'_>) {
        let top = self.stream.top().expect("nobody catches up with a scope that was never live");
        let joins = self.joins.get_or_insert_default();
        if history.top.generation > top.generation {
            // A failover that the stream does not know yet. The stream is repaired first.
            joins.waiting.extend(read.joiners);
            if self.stream.live().is_some() {
                self.ask(scope, Some(top), context);
            }
            return;
        }
        let keeps_history = context.keeps_history(scope);
        let entries = std::mem::take(&mut history.entries).into();
        let (mut again, mut exhausted) = (Vec::new(), Vec::new());
        for mut waiting in read.joiners {
            // The history was read before this joiner came, and ends before what its shard had received by then.
            let is_stale = Some(history.top) < waiting.seen || history.top.generation < top.generation;
            if is_stale && waiting.is_exhausted_by_one_more() {
                exhausted.push(waiting);
            } else if is_stale {
                again.push(waiting);
            } else if let Some(page) = Page::new(&waiting.after, read.after, &history, &entries, top, keeps_history) {
                waiting.answer(scope, page, context.out);
            } else {
                again.push(waiting.pass_over());
            }
        }
        joins.queue_again(again);
        self.give_up(scope, exhausted, context.out);
        self.read_next(scope, context);
    }

    /// Answers these joiners with a gap: their missed messages cannot be read.
    fn give_up(&self, scope: &Scope, exhausted: Vec<WaitingJoiner>, out: &mut Vec<Output>) {
        for waiting in exhausted {
            let upto = self.stream.top().or(waiting.seen).or(waiting.after.lowest()).unwrap_or_default();
            waiting.answer_at(scope, upto, GapReason::Unreadable, out);
        }
    }
}
