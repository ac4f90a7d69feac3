//! PURE. One scope as this instance hears it: how far it has been handed on, and what to do about a hole.
//!
//! ```text
//!   Unheard ──▶ Subscribing ──▶ Syncing ──▶ Live ──┐
//!      ▲                          ▲  └─ more ─┘    │ hole, or another generation
//!      │ broker lost              └────────────────┘
//! ```
//!
//! The rule is anchored: what is heard while the history is read is held, and only what follows the history's
//! top without a hole is handed on. Anything else is read again. (Checking only the held messages against each
//! other loses one that was dropped between top and the first of them.)

use std::collections::VecDeque;

use bytes::Bytes;
use wire::{GapReason, Position};

use crate::broker::{History, Ticket};
use crate::history::{Gap, judge, standing};

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
    Unheard,
    /// Asked for, not confirmed.
    Subscribing,
    /// Heard, and its history is being read.
    Syncing(Box<Sync>),
    /// Handed on as it is heard.
    Live,
}

/// What is kept while the history is read.
#[derive(Debug, Default)]
struct Sync {
    /// The question in flight, or waiting to be asked again.
    ticket: Option<Ticket>,
    /// Behind which position it asks.
    after: Option<Position>,
    /// Heard since, in order.
    held: VecDeque<Held>,
    /// Bytes of the envelopes in `held`.
    held_bytes: usize,
    /// How many of `held` were heard before the question was asked. The answer knows of them, or they were
    /// never stored.
    held_when_asked: usize,
    /// The last of those for which there was no room. The history has them.
    dropped: Option<Position>,
    /// The history must be read again, because of them.
    again: bool,
}

/// One envelope that waits for the history.
#[derive(Debug)]
struct Held {
    first: Position,
    last: Position,
    envelope: Bytes,
}

/// What to do with an envelope that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Hand on its messages behind `after`.
    Deliver { after: Position },
    /// Nothing: it was handed on before.
    Old,
    /// Nothing: it waits for the history, or the history that is yet to be read will hold it.
    Held,
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
    /// It was never stored; left out.
    Ghost,
    /// None is left, the stream is live.
    Live,
}

/// How an envelope lies to the top.
enum Place {
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

    pub(crate) fn is_unheard(&self) -> bool {
        matches!(self.phase, Phase::Unheard)
    }

    pub(crate) fn is_subscribing(&self) -> bool {
        matches!(self.phase, Phase::Subscribing)
    }

    /// The broker confirmed that it is heard.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Syncing(_) | Phase::Live)
    }

    /// The question about its history: its name, and behind which position it asks.
    pub(crate) fn question(&self) -> Option<(Ticket, Option<Position>)> {
        let Phase::Syncing(sync) = &self.phase else { return None };
        sync.ticket.map(|ticket| (ticket, sync.after))
    }

    /// The broker is asked for it.
    pub(crate) fn subscribe(&mut self) {
        debug_assert!(self.is_unheard(), "a scope is subscribed once until it is lost");
        self.phase = Phase::Subscribing;
    }

    /// The broker lost it. What is held is forgotten: the history has it.
    pub(crate) fn lose(&mut self) {
        self.phase = Phase::Unheard;
    }

    /// Its history is asked for behind `after`; from now on envelopes are held.
    pub(crate) fn ask(&mut self, ticket: Ticket, after: Option<Position>) {
        if !matches!(self.phase, Phase::Syncing(_)) {
            self.phase = Phase::Syncing(Box::default());
        }
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("set above") };
        sync.ticket = Some(ticket);
        sync.after = after;
        sync.held_when_asked = sync.held.len();
    }

    /// An envelope with the messages `first` to `last` arrived.
    pub(crate) fn hear(&mut self, first: Position, last: Position, envelope: &Bytes, bytes_max: usize) -> Heard {
        match (&mut self.phase, self.top) {
            (Phase::Live, Some(top)) => match place(top, first, last) {
                Place::Next => {
                    self.top = Some(last);
                    Heard::Deliver { after: top }
                }
                Place::Old => Heard::Old,
                Place::Hole => {
                    let mut sync = Box::new(Sync::default());
                    sync.hold(first, last, envelope, bytes_max);
                    self.phase = Phase::Syncing(sync);
                    Heard::Hole { after: top }
                }
            },
            (Phase::Syncing(sync), _) => {
                sync.hold(first, last, envelope, bytes_max);
                Heard::Held
            }
            (Phase::Unheard | Phase::Subscribing | Phase::Live, _) => Heard::Held,
        }
    }

    /// The history arrived. `keeps_history` is false for families without one.
    pub(crate) fn absorb(&mut self, history: &History, keeps_history: bool) -> Absorbed {
        let Phase::Syncing(sync) = &mut self.phase else { unreachable!("only a question is answered") };
        sync.ticket = None;
        let dropped = sync.dropped.take();
        sync.again = dropped.is_some_and(|dropped| dropped > history.top);
        let Some(top) = self.top else {
            self.top = Some(history.top);
            return Absorbed::First;
        };
        // Heard, and lost by the failover that began the generation of the answer.
        let is_lost = |last: Position| last <= history.top && standing(last, history).is_err();
        let gap = match judge(top, history) {
            Ok(()) if sync.held.iter().map(|held| held.last).chain(dropped).any(is_lost) => {
                Gap { certain: true, ..Gap::new(Some(top), history.top, GapReason::Failover) }
            }
            Ok(()) => {
                let last = history.entries.last().filter(|_| history.more);
                self.top = Some(last.map_or(history.top, |entry| entry.position));
                return Absorbed::Missed { more: history.more };
            }
            Err(GapReason::Expired) if !keeps_history => Gap::new(Some(top), history.top, GapReason::NoHistory),
            Err(reason) => Gap::new(Some(top), history.top, reason),
        };
        self.top = Some(history.top);
        Absorbed::Broken(gap)
    }

    /// The next of the held envelopes, after [`Self::absorb`]. To be called until it says `Hole` or `Live`.
    pub(crate) fn release(&mut self) -> Release {
        let (Phase::Syncing(sync), Some(top)) = (&mut self.phase, self.top) else { return Release::Live };
        while let Some(held) = sync.held.front() {
            let place = place(top, held.first, held.last);
            let is_known = sync.held_when_asked > 0;
            if matches!(place, Place::Hole) && !is_known {
                return Release::Hole { after: top };
            }
            let held = sync.held.pop_front().expect("just seen");
            sync.held_bytes -= held.envelope.len();
            sync.held_when_asked = sync.held_when_asked.saturating_sub(1);
            match place {
                Place::Old => {}
                Place::Hole => return Release::Ghost,
                Place::Next => {
                    self.top = Some(held.last);
                    return Release::Deliver { envelope: held.envelope, after: top };
                }
            }
        }
        if std::mem::take(&mut sync.again) {
            return Release::Hole { after: top };
        }
        self.phase = Phase::Live;
        Release::Live
    }
}

impl Sync {
    fn hold(&mut self, first: Position, last: Position, envelope: &Bytes, bytes_max: usize) {
        if self.held_bytes + envelope.len() > bytes_max {
            self.held.clear();
            self.held_bytes = 0;
            self.held_when_asked = 0;
            self.dropped = Some(last);
            return;
        }
        self.held_bytes += envelope.len();
        self.held.push_back(Held { first, last, envelope: envelope.clone() });
    }
}

fn place(top: Position, first: Position, last: Position) -> Place {
    if last <= top {
        Place::Old
    } else if first.generation == top.generation && first <= top.next() {
        Place::Next
    } else {
        Place::Hole
    }
}
