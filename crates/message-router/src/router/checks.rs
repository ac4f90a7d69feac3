//! PURE. Whether what was handed on last is what the broker stored last: asked of every scope once per period.
//!
//! ```text
//!   ring ──▶ asked in batches ──▶ as expected ───────────────────────────▶ back into the ring
//!                             ├─▶ behind: erased or set back ──▶ read ──▶
//!                             └─▶ ahead ──▶ fence ──▶ still ahead: read ─▶
//! ```
//!
//! When the last message of a scope is dropped on its way here, no later one shows the hole, and the link looks
//! healthy: only a comparison finds it. A broker that is ahead proves nothing yet, because the message may still be
//! on its way: the scope is subscribed once more, and what has not come when that is confirmed never will.
//!
//! The ring turns evenly, so that ten thousand scopes are not asked about in one burst.

use std::collections::VecDeque;

use hashbrown::HashMap;
use wire::{Position, Scope};

use super::Router;
use super::interest::{Interest, RouterContext};
use super::output::Output;
use crate::broker::{BrokerError, Command, Ticket};

/// Scopes in one question: some 10 KiB, and Redis serves others in between.
const BATCH_SCOPES_MAX: usize = 128;
/// Questions in flight. A broker that answers slowly is asked less often.
const BATCHES_MAX: usize = 8;
/// Longer between two sweeps is a pause, of this process or of the broker, and not to be made up for.
const SWEEP_MS_MAX: u64 = 1_000;

/// So many places of scopes that have gone are nothing.
const GONE_KEPT: usize = 1_024;

/// Which scopes are to be asked about, and which are.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Every scope once, in the order they will be asked about, except those in `asked`. One that has gone stays until
    /// its turn, or until such places are most of the ring: while the broker is away no turn comes.
    ring: VecDeque<RingPlace>,
    /// Scopes that have gone since, at most.
    gone: usize,
    asked: VecDeque<CheckBatch>,
    /// Where the broker was seen to stand, for scopes behind a fence.
    ahead: HashMap<Scope, Position>,
    /// When the ring was turned last.
    turned_ms: u64,
    /// What is left of the last turn, in scopes times milliseconds.
    credit: u64,
    last_mark: u32,
}

/// One scope's place in the ring.
#[derive(Debug)]
struct RingPlace {
    scope: Scope,
    /// Of the interest: one that was given up and taken again has another place.
    mark: u32,
}

/// One question.
#[derive(Debug)]
struct CheckBatch {
    ticket: Ticket,
    /// With the position that had been handed on when it was asked.
    places: Vec<(RingPlace, Position)>,
}

impl Checks {
    /// A place for a new scope; its mark.
    pub(super) fn enter(&mut self, scope: &Scope) -> u32 {
        self.last_mark = self.last_mark.wrapping_add(1);
        self.ring.push_back(RingPlace { scope: scope.clone(), mark: self.last_mark });
        self.last_mark
    }

    /// A scope has gone.
    pub(super) fn leave(&mut self, scope: &Scope, scopes: &HashMap<Scope, Interest>) {
        self.take_ahead(scope);
        self.gone += 1;
        if self.gone > self.ring.len() / 2 + GONE_KEPT {
            self.gone = 0;
            self.ring.retain(|place| scopes.get(&place.scope).is_some_and(|interest| interest.mark == place.mark));
            self.ring.shrink_to(2 * self.ring.len());
        }
    }

    /// The broker was lost, and every answer with it.
    pub(super) fn lose(&mut self) {
        for batch in self.asked.drain(..) {
            self.ring.extend(batch.places.into_iter().map(|(place, _)| place));
        }
        self.ahead.clear();
        self.credit = 0;
    }

    /// Where the broker was seen before the fence that was now heard.
    pub(super) fn take_ahead(&mut self, scope: &Scope) -> Option<Position> {
        if self.ahead.is_empty() { None } else { self.ahead.remove(scope) }
    }

    /// Time passes. At most one whole turn is owed, however slowly the broker answers.
    fn turn(&mut self, now_ms: u64, period_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.turned_ms).min(SWEEP_MS_MAX);
        self.turned_ms = now_ms;
        let places = self.ring.len() + self.asked.iter().map(|batch| batch.places.len()).sum::<usize>();
        self.credit = (self.credit + places as u64 * elapsed_ms).min(places as u64 * period_ms);
    }

    /// The next place that has had its period.
    fn take_due(&mut self, period_ms: u64) -> Option<RingPlace> {
        self.credit = self.credit.checked_sub(period_ms)?;
        self.ring.pop_front()
    }
}

impl Router {
    /// Time has passed: asks about the scopes whose turn it is.
    pub(super) fn check(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.is_up {
            self.checks.turn(now_ms, self.config.check_interval_ms);
            self.check_due(out);
        }
    }

    fn check_due(&mut self, out: &mut Vec<Output>) {
        while self.checks.asked.len() < BATCHES_MAX {
            let mut places = Vec::new();
            while places.len() < BATCH_SCOPES_MAX {
                let Some(place) = self.checks.take_due(self.config.check_interval_ms) else { break };
                let Some(interest) = self.scopes.get(&place.scope).filter(|i| i.mark == place.mark) else { continue };
                match interest.stream.live().filter(|_| !interest.shards.is_empty()) {
                    Some(top) => places.push((place, top)),
                    // It is being read, or nobody wants it.
                    None => self.checks.ring.push_back(place),
                }
            }
            if places.is_empty() {
                return;
            }
            let ticket = self.reads.ticket();
            let scopes = places.iter().map(|(place, _)| place.scope.clone()).collect();
            out.push(Output::Command(Command::Tops { ticket, scopes }));
            self.checks.asked.push_back(CheckBatch { ticket, places });
        }
    }

    /// The broker said where it stands.
    pub(super) fn checked(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<Option<Position>>, BrokerError>,
        out: &mut Vec<Output>,
    ) {
        let Some(index) = self.checks.asked.iter().position(|batch| batch.ticket == ticket) else { return };
        let places = self.checks.asked.remove(index).expect("just found").places;
        match result.ok().filter(|tops| tops.len() == places.len()) {
            Some(tops) => {
                for ((place, asked), top) in places.into_iter().zip(tops) {
                    self.compare(place, asked, top, out);
                }
                // One sweep's questions may not have held all that were due.
                self.check_due(out);
            }
            None => {
                // They are the next to be asked about, when time has passed.
                self.counts.checks_failed += 1;
                places.into_iter().rev().for_each(|(place, _)| self.checks.ring.push_front(place));
            }
        }
    }

    /// `asked` had been handed on when the broker was asked, and stood at `top`.
    fn compare(&mut self, place: RingPlace, asked: Position, top: Option<Position>, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(&place.scope).filter(|i| i.mark == place.mark) else { return };
        self.counts.checks += 1;
        match (interest.stream.live(), top) {
            // It is being read.
            (None, _) => {}
            // The last fence still stands: the next check will tell.
            (Some(live), Some(top)) if top > live && interest.fences > 0 => {}
            (Some(live), Some(top)) if top > live => {
                self.checks.ahead.insert(place.scope.clone(), top);
                interest.fence(&place.scope, out);
            }
            (Some(_), Some(top)) if top >= asked => {}
            (Some(_), Some(_) | None) => {
                let mut context =
                    RouterContext { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out };
                interest.repair(&place.scope, &mut context);
            }
        }
        self.checks.ring.push_back(place);
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::super::{Joiner, RouterConfig, ShardIndex, TABLE_KEPT};
    use super::*;

    fn scope(n: usize) -> Scope {
        Families::default().parse_scope(&format!("default/user:{n}")).unwrap()
    }

    #[test]
    fn scopes_that_come_and_go_while_the_broker_is_away_leave_nothing_behind() {
        let (mut router, mut out) = (Router::new(RouterConfig::default()), Vec::new());
        router.join(ShardIndex(0), Joiner(0), scope(0), None, &mut out);
        for n in 1..20_000 {
            router.join(ShardIndex(0), Joiner(n as u64), scope(n), None, &mut out);
            router.leave(ShardIndex(0), &scope(n), n as u64);
            router.sweep(n as u64, &mut out);
            out.clear();
        }
        assert_eq!(router.scopes(), 1);
        let checks = &router.checks;
        assert!(checks.ring.len() <= 2 * GONE_KEPT + 2, "{} places", checks.ring.len());
        assert!(checks.ring.iter().any(|place| place.scope == scope(0)), "who is here keeps its place");
    }

    #[test]
    fn tables_shrink_when_those_they_were_for_have_gone() {
        let (mut router, mut out) = (Router::new(RouterConfig::default()), Vec::new());
        router.handle(crate::broker::Event::Up, 0, &mut out);
        (0..20_000).for_each(|n| router.join(ShardIndex(0), Joiner(n as u64), scope(n), None, &mut out));
        out.clear();
        router.sweep(0, &mut out);
        assert!(router.scopes.capacity() >= 20_000);
        (0..20_000).for_each(|n| router.handle(crate::broker::Event::Subscribed(scope(n)), 0, &mut out));
        (0..20_000).for_each(|n| router.leave(ShardIndex(0), &scope(n), 0));
        router.sweep(2_000, &mut out);
        assert_eq!(router.scopes(), 0);
        let left = (router.scopes.capacity(), router.lingering.capacity(), router.checks.ring.capacity());
        assert!(left.0 <= TABLE_KEPT && left.1 <= TABLE_KEPT && left.2 <= 4 * GONE_KEPT, "{left:?}");
    }
}
