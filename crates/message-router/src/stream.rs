//! PURE. One scope as this instance receives it: how far it has been handed on, and what to do about a hole.
//!
//! ```text
//!   Unsubscribed ─▶ Subscribing ─▶ Syncing ─────▶ Live
//!     ▲                            ▲ │ ▲            │
//!     │ subscription               └─┘ └────────────┘
//!     │ or broker lost            more     hole, another generation, or a check
//! ```
//!
//! The rule is anchored at the history: messages that arrive while the history is read are held, and only those that
//! follow the top of the history without a hole are handed on. For anything else the history is read again. (A
//! comparison of the held messages with each other would miss one that was lost between the top and the first of them.)
//!
//! A family without history has only the held messages. The top of its history says how far they should reach. A second
//! confirmation of the subscription, the fence, shows that what has not come until then never will.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::{GapReason, Position};

use crate::broker::{History, Ticket};
use crate::history::{Gap, check_position, judge, over_ends};

/// The contiguity of one scope. It is small, because every scope of the instance has one.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The last position that was handed on. It is kept during an outage, because repair begins after it. Always `Some`
    /// while live.
    top: Option<Position>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    /// Not subscribed: not requested yet, or lost.
    #[default]
    Unsubscribed,
    /// Requested and not confirmed.
    Subscribing,
    /// Confirmed; the history is being read.
    Syncing(Box<SyncState>),
    /// Messages are handed on as they arrive.
    Live,
}

/// The state while the history is read.
#[derive(Debug, Default)]
struct SyncState {
    /// The request in flight, or waiting to be repeated.
    ticket: Option<Ticket>,
    /// The position after which it reads.
    after: Option<Position>,
    /// Envelopes that arrived since, in order.
    held: VecDeque<HeldEnvelope>,
    /// Bytes of the envelopes in `held`.
    held_bytes: usize,
    /// Number of envelopes in `held` that arrived before the request. The answer contains them, or they were never
    /// stored.
    held_when_asked: usize,
    /// The last position of the envelopes that were dropped for lack of room. They are in the history.
    dropped: Option<Position>,
    /// The history must be read again because of dropped envelopes.
    again: bool,
    /// An answer for a family without history that is ahead of the envelopes received. It waits for the fence.
    unjudged: Option<History>,
    /// The history, of a family that keeps none, whose top the held envelopes should reach. Nothing else will come.
    unkept: Option<History>,
    /// The request was sent because a check found another position in the broker.
    is_check: bool,
    /// The lost position that is reported to the broker, in place of a read.
    noting: Option<Position>,
    /// The broker has recorded the loss; its next history shows it.
    is_noted: bool,
}

/// One envelope that waits for the history.
#[derive(Debug)]
struct HeldEnvelope {
    first: Position,
    last: Position,
    envelope: Bytes,
}

/// What to do with an envelope that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnvelopeAction {
    /// Hand on its messages above `after`.
    Deliver { after: Position },
    /// Nothing: it was handed on before.
    Old,
    /// Nothing: it waits for the history, or will be part of the history that is read next.
    Buffered,
    /// It waits. Read the history above `after`.
    Hole { after: Position },
}

/// What a history means for the shards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Absorbed {
    /// It is the first one: its top is where the stream begins.
    First,
    /// Its entries are the missed messages. Without `more` they reach its top.
    Missed { more: bool },
    /// It cannot be judged before the fence is confirmed.
    Early,
    /// Redis has lost messages that were handed on or received, up to this position. The broker must be informed.
    Lost(Position),
    /// It does not continue what was handed on.
    Broken(Gap),
}

/// What to do with the held envelopes, one at a time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Hand on the messages of this envelope above `after`.
    Deliver { envelope: Bytes, after: Position },
    /// There is a hole before the next envelope: read the history above `after`.
    Hole { after: Position },
    /// Messages before the next envelope were not kept and are missing. More envelopes may follow.
    Gap(Gap),
    /// The envelope was never stored; it is dropped.
    Unstored,
    /// No envelope is left; the stream is live.
    Live,
}

/// The place of an envelope relative to the top.
enum EnvelopePlace {
    Old,
    Next,
    Hole,
}

impl Stream {
    pub(crate) fn top(&self) -> Option<Position> {
        self.top
    }

    /// The top, if messages are handed on as they arrive.
    pub(crate) fn live(&self) -> Option<Position> {
        if matches!(self.phase, Phase::Live) { self.top } else { None }
    }

    pub(crate) fn is_unsubscribed(&self) -> bool {
        matches!(self.phase, Phase::Unsubscribed)
    }

    pub(crate) fn is_subscribing(&self) -> bool {
        matches!(self.phase, Phase::Subscribing)
    }

    /// The broker confirmed the subscription.
    pub(crate) fn is_subscribed(&self) -> bool {
        matches!(self.phase, Phase::Syncing(_) | Phase::Live)
    }

    /// The request for its history: its ticket, and the position after which it reads.
    pub(crate) fn question(&self) -> Option<(Ticket, Option<Position>)> {
        let Phase::Syncing(sync) = &self.phase else { return None };
        sync.ticket.map(|ticket| (ticket, sync.after))
    }

    /// Whether the history is read because of a check.
    pub(crate) fn is_check(&self) -> bool {
        matches!(&self.phase, Phase::Syncing(sync) if sync.is_check)
    }

    /// The broker was asked to subscribe.
    pub(crate) fn subscribe(&mut self) {
        debug_assert!(self.is_unsubscribed(), "a scope is subscribed once until it is lost");
        self.phase = Phase::Subscribing;
    }

    /// The subscription was lost. Held envelopes are dropped: the history has their messages.
    pub(crate) fn lose(&mut self) {
        self.phase = Phase::Unsubscribed;
    }

    /// The next read of the history is because of a check.
    pub(crate) fn check(&mut self) {
        debug_assert!(self.live().is_some(), "only what is live is checked");
        self.phase = Phase::Syncing(Box::new(SyncState { is_check: true, ..SyncState::default() }));
    }

    /// The history is requested above `after`. From now on envelopes are held.
    pub(crate) fn ask(&mut self, ticket: Ticket, after: Option<Position>) {
        if !matches!(self.phase, Phase::Syncing(_)) {
            self.phase = Phase::Syncing(Box::default());
        }
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("set above") };
        (sync.ticket, sync.after, sync.noting) = (Some(ticket), after, None);
        sync.held_when_asked = sync.held.len();
    }

    /// The broker is informed, in place of a read, that the message at `position` is lost.
    pub(crate) fn note_loss(&mut self, ticket: Ticket, position: Position) {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("only a history shows what is gone") };
        (sync.ticket, sync.noting) = (Some(ticket), Some(position));
    }

    /// The lost position that is reported with this ticket.
    pub(crate) fn noting(&self, ticket: Ticket) -> Option<Position> {
        let Phase::Syncing(sync) = &self.phase else { return None };
        sync.noting.filter(|_| sync.ticket == Some(ticket))
    }

    /// The broker has recorded the loss.
    pub(crate) fn loss_noted(&mut self) {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("it has just been told") };
        sync.is_noted = true;
    }

    /// An envelope with the messages `first` to `last` has arrived.
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

    /// The fence is confirmed: takes the answer that waited for it.
    pub(crate) fn take_unjudged(&mut self) -> Option<History> {
        let Phase::Syncing(sync) = &mut self.phase else { return None };
        sync.unjudged.take()
    }

    /// The history has arrived. `keeps_history` is false for families without one; their held messages are complete
    /// once the stream `is_fenced`.
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
        // Messages that arrived, and were lost by the failover that began the generation of the answer.
        let is_lost = |last: Position| last <= history.top && check_position(last, history).is_err();
        let lost = sync.held.iter().map(|held| held.last).chain(dropped).filter(|last| is_lost(*last)).max();
        let gone = lost.max(check_position(top, history).is_err().then_some(top));
        // There is no message at offset 0.
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

    /// The next held envelope, after [`Self::absorb`]. The caller repeats the call until it returns `Hole` or `Live`.
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
    /// Whether messages up to the top of `history` may still be under way. Messages are pushed in order: those that
    /// have not come before one at or after that top never come.
    fn is_early(&self, top: Position, history: &History) -> bool {
        let is_reached = |(index, held): (usize, &HeldEnvelope)| {
            // It arrived before the request and is wholly newer than the answer, so it was never stored and proves
            // nothing.
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

/// The position directly before `first`.
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
