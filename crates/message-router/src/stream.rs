//! PURE. One scope as this instance hears it: how far it has been handed on, and what to do about a hole.
//!
//! ```text
//!   Unsubscribed ─▶ Subscribing ─▶ Syncing ──▶ Live ──┐
//!      ▲                          ▲  └─ more ─┘    │ hole, or another generation
//!      │ broker lost              └────────────────┘
//! ```
//!
//! The rule is anchored: what is heard while the history is read is held, and only what follows the history's
//! top without a hole is handed on. Anything else is read again. (Checking only the held messages against each
//! other loses one that was dropped between top and the first of them.)
//!
//! Where nothing is kept, what is held is all there is. The top of the history says how far it should reach, and a
//! second confirmation of the subscription, the fence, that whatever has not come by then never will.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::{GapReason, Position};

use crate::broker::{History, Ticket};
use crate::history::{Gap, check_position, judge, over_ends};

/// Contiguity of one scope. Small: every scope of the instance has one.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The last position handed on. Kept through an outage: behind it, repair begins. `Some` while live.
    top: Option<Position>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    /// The broker has not been asked for it, or has lost it.
    #[default]
    Unsubscribed,
    /// Asked for, not confirmed.
    Subscribing,
    /// Heard, and its history is being read.
    Syncing(Box<SyncState>),
    /// Handed on as it is heard.
    Live,
}

/// What is kept while the history is read.
#[derive(Debug, Default)]
struct SyncState {
    /// The question in flight, or waiting to be asked again.
    ticket: Option<Ticket>,
    /// Behind which position it asks.
    after: Option<Position>,
    /// Heard since, in order.
    held: VecDeque<HeldEnvelope>,
    /// Bytes of the envelopes in `held`.
    held_bytes: usize,
    /// How many of `held` were heard before the question was asked. The answer knows of them, or they were
    /// never stored.
    held_when_asked: usize,
    /// The last of those for which there was no room. The history has them.
    dropped: Option<Position>,
    /// The history must be read again, because of them.
    again: bool,
    /// An answer that stands behind what has been heard, of a family that keeps nothing: it waits for the fence.
    unjudged: Option<History>,
    /// What is held ought to reach this history's top, and nothing else will come.
    unkept: Option<History>,
    /// The question was asked because a check found the broker elsewhere.
    is_check: bool,
    /// What is said to the broker in place of a question: that the message here is gone.
    noting: Option<Position>,
    /// It has been said, and the broker's history shows it.
    is_noted: bool,
}

/// One envelope that waits for the history.
#[derive(Debug)]
struct HeldEnvelope {
    first: Position,
    last: Position,
    envelope: Bytes,
}

/// What to do with an envelope that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnvelopeAction {
    /// Hand on its messages behind `after`.
    Deliver { after: Position },
    /// Nothing: it was handed on before.
    Old,
    /// Nothing: it waits for the history, or the history that is yet to be read will hold it.
    Buffered,
    /// It waits; read the history behind `after`.
    Hole { after: Position },
}

/// What a history meant for the shards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Absorbed {
    /// Nothing was handed on before it: its top is where the stream begins.
    First,
    /// Its entries are what was missed. Without `more`, they reach its top.
    Missed { more: bool },
    /// Nothing can be said before the fence.
    Early,
    /// Redis has lost what was handed on or heard, up to this position, and is to know of it.
    Lost(Position),
    /// It does not continue what was handed on.
    Broken(Gap),
}

/// What becomes of the held envelopes, one at a time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Hand on this one's messages behind `after`.
    Deliver { envelope: Bytes, after: Position },
    /// There is a hole before the next one: read the history behind `after`.
    Hole { after: Position },
    /// What lies in it was not kept, and goes missing. There may be a next one.
    Gap(Gap),
    /// It was never stored; left out.
    Unstored,
    /// None is left, the stream is live.
    Live,
}

/// How an envelope lies to the top.
enum EnvelopePlace {
    Old,
    Next,
    Hole,
}

impl Stream {
    pub(crate) fn top(&self) -> Option<Position> {
        self.top
    }

    /// The top, if messages are handed on as they are heard.
    pub(crate) fn live(&self) -> Option<Position> {
        if matches!(self.phase, Phase::Live) { self.top } else { None }
    }

    pub(crate) fn is_unsubscribed(&self) -> bool {
        matches!(self.phase, Phase::Unsubscribed)
    }

    pub(crate) fn is_subscribing(&self) -> bool {
        matches!(self.phase, Phase::Subscribing)
    }

    /// The broker confirmed that it is heard.
    pub(crate) fn is_subscribed(&self) -> bool {
        matches!(self.phase, Phase::Syncing(_) | Phase::Live)
    }

    /// The question about its history: its name, and behind which position it asks.
    pub(crate) fn question(&self) -> Option<(Ticket, Option<Position>)> {
        let Phase::Syncing(sync) = &self.phase else { return None };
        sync.ticket.map(|ticket| (ticket, sync.after))
    }

    /// Whether its history is read because of a check.
    pub(crate) fn is_check(&self) -> bool {
        matches!(&self.phase, Phase::Syncing(sync) if sync.is_check)
    }

    /// The broker is asked for it.
    pub(crate) fn subscribe(&mut self) {
        debug_assert!(self.is_unsubscribed(), "a scope is subscribed once until it is lost");
        self.phase = Phase::Subscribing;
    }

    /// The broker lost it. What is held is forgotten: the history has it.
    pub(crate) fn lose(&mut self) {
        self.phase = Phase::Unsubscribed;
    }

    /// The history that is asked for next is read because of a check.
    pub(crate) fn check(&mut self) {
        debug_assert!(self.live().is_some(), "only what is live is checked");
        self.phase = Phase::Syncing(Box::new(SyncState { is_check: true, ..SyncState::default() }));
    }

    /// Its history is asked for behind `after`; from now on envelopes are held.
    pub(crate) fn ask(&mut self, ticket: Ticket, after: Option<Position>) {
        if !matches!(self.phase, Phase::Syncing(_)) {
            self.phase = Phase::Syncing(Box::default());
        }
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("set above") };
        (sync.ticket, sync.after, sync.noting) = (Some(ticket), after, None);
        sync.held_when_asked = sync.held.len();
    }

    /// In place of a question, the broker is told that the message at `position` is gone.
    pub(crate) fn note_loss(&mut self, ticket: Ticket, position: Position) {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("only a history shows what is gone") };
        (sync.ticket, sync.noting) = (Some(ticket), Some(position));
    }

    /// What the broker is told under this name.
    pub(crate) fn noting(&self, ticket: Ticket) -> Option<Position> {
        let Phase::Syncing(sync) = &self.phase else { return None };
        sync.noting.filter(|_| sync.ticket == Some(ticket))
    }

    /// The broker has been told.
    pub(crate) fn loss_noted(&mut self) {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("it has just been told") };
        sync.is_noted = true;
    }

    /// An envelope with the messages `first` to `last` arrived.
    pub(crate) fn receive(
        &mut self,
        first: Position,
        last: Position,
        envelope: &Bytes,
        bytes_max: usize,
    ) -> EnvelopeAction {
        match (&mut self.phase, self.top) {
            (Phase::Live, Some(top)) => match place(top, first, last) {
                EnvelopePlace::Next => {
                    self.top = Some(last);
                    EnvelopeAction::Deliver { after: top }
                }
                EnvelopePlace::Old => EnvelopeAction::Old,
                EnvelopePlace::Hole => {
                    let mut sync = Box::new(SyncState::default());
                    sync.hold(first, last, envelope, bytes_max);
                    self.phase = Phase::Syncing(sync);
                    EnvelopeAction::Hole { after: top }
                }
            },
            (Phase::Syncing(sync), _) => {
                sync.hold(first, last, envelope, bytes_max);
                EnvelopeAction::Buffered
            }
            (Phase::Unsubscribed | Phase::Subscribing | Phase::Live, _) => EnvelopeAction::Buffered,
        }
    }

    /// The fence was heard: the answer that waits for it.
    pub(crate) fn take_unjudged(&mut self) -> Option<History> {
        let Phase::Syncing(sync) = &mut self.phase else { return None };
        sync.unjudged.take()
    }

    /// The history arrived. `keeps_history` is false for families without one; what those have held back is all there
    /// is once it `is_fenced`.
    pub(crate) fn absorb(&mut self, history: &History, keeps_history: bool, is_fenced: bool) -> Absorbed {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("only a question is answered") };
        sync.ticket = None;
        sync.unkept = None;
        if !keeps_history && !is_fenced && self.top.is_some_and(|top| sync.is_early(top, history)) {
            sync.unjudged = Some(history.clone());
            return Absorbed::Early;
        }
        let dropped = sync.dropped.take();
        sync.again = dropped.is_some_and(|dropped| dropped > history.top);
        let Some(top) = self.top else {
            self.top = Some(history.top);
            return Absorbed::First;
        };
        // Heard, and lost by the failover that began the generation of the answer.
        let is_lost = |last: Position| last <= history.top && check_position(last, history).is_err();
        let lost = sync.held.iter().map(|held| held.last).chain(dropped).filter(|last| is_lost(*last)).max();
        let gone = lost.max(check_position(top, history).is_err().then_some(top));
        // Nothing stands at 0.
        if let Some(gone) = gone.filter(|gone| gone.offset > 0 && !sync.is_noted) {
            sync.dropped = dropped;
            return Absorbed::Lost(gone);
        }
        let gap = match judge(top, history) {
            Ok(()) | Err(GapReason::Expired) if lost.is_some() => {
                Gap { certain: true, ..Gap::new(Some(top), history.top, GapReason::Failover) }
            }
            Ok(()) => {
                let last = history.entries.last().filter(|_| history.more);
                self.top = Some(last.map_or(history.top, |entry| entry.position));
                return Absorbed::Missed { more: history.more };
            }
            Err(GapReason::Expired) if !keeps_history => {
                sync.unkept = Some(history.clone());
                return Absorbed::Missed { more: false };
            }
            Err(reason) => Gap::new(Some(top), history.top, reason),
        };
        self.top = Some(history.top);
        Absorbed::Broken(gap)
    }

    /// The next of the held envelopes, after [`Self::absorb`]. To be called until it says `Hole` or `Live`.
    pub(crate) fn release(&mut self) -> Release {
        let (Phase::Syncing(sync), Some(mut top)) = (&mut self.phase, self.top) else { return Release::Live };
        if let Some(unkept) = &sync.unkept {
            top = over_ends(top, unkept);
            self.top = Some(top);
        }
        let upto = sync.unkept.as_ref().map(|unkept| unkept.top);
        while let Some(held) = sync.held.front() {
            let place = place(top, held.first, held.last);
            let is_known = sync.held_when_asked > 0;
            if let (EnvelopePlace::Hole, Some(upto)) = (&place, upto)
                && !(is_known && held.first > upto)
            {
                let upto = upto.min(before(held.first));
                if upto > top {
                    self.top = Some(upto);
                    return Release::Gap(Gap::new(Some(top), upto, GapReason::NoHistory));
                }
            }
            if matches!(place, EnvelopePlace::Hole) && !is_known {
                return Release::Hole { after: top };
            }
            let held = sync.held.pop_front().expect("just seen");
            sync.held_bytes -= held.envelope.len();
            sync.held_when_asked = sync.held_when_asked.saturating_sub(1);
            match place {
                EnvelopePlace::Old => {}
                EnvelopePlace::Hole => return Release::Unstored,
                EnvelopePlace::Next => {
                    self.top = Some(held.last);
                    return Release::Deliver { envelope: held.envelope, after: top };
                }
            }
        }
        sync.unkept = None;
        if let Some(upto) = upto.filter(|upto| *upto > top) {
            self.top = Some(upto);
            return Release::Gap(Gap::new(Some(top), upto, GapReason::NoHistory));
        }
        if std::mem::take(&mut sync.again) {
            return Release::Hole { after: top };
        }
        self.phase = Phase::Live;
        Release::Live
    }
}

impl SyncState {
    /// Whether messages up to the top of `history` may still be on their way: they are pushed in order, so what has
    /// not come before one that stands there or behind it never will.
    fn is_early(&self, top: Position, history: &History) -> bool {
        let is_reached = |(index, held): (usize, &HeldEnvelope)| {
            // Known when asked, and wholly behind the answer: never stored, so it shows nothing.
            let is_unstored = index < self.held_when_asked && held.first > history.top;
            held.last >= history.top && !is_unstored
        };
        let is_dropped = self.dropped.is_some_and(|dropped| dropped >= history.top);
        judge(top, history) == Err(GapReason::Expired) && !is_dropped && !self.held.iter().enumerate().any(is_reached)
    }

    fn hold(&mut self, first: Position, last: Position, envelope: &Bytes, bytes_max: usize) {
        if self.held_bytes + envelope.len() > bytes_max {
            self.held.clear();
            self.held_bytes = 0;
            self.held_when_asked = 0;
            self.dropped = Some(last);
            return;
        }
        self.held_bytes += envelope.len();
        self.held.push_back(HeldEnvelope { first, last, envelope: envelope.clone() });
    }
}

/// The position before `first`.
fn before(first: Position) -> Position {
    Position::new(first.generation, first.offset.saturating_sub(1))
}

fn place(top: Position, first: Position, last: Position) -> EnvelopePlace {
    if last <= top {
        EnvelopePlace::Old
    } else if first.generation == top.generation && first <= top.next() {
        EnvelopePlace::Next
    } else {
        EnvelopePlace::Hole
    }
}
