//! PURE. Compares the position of every scope with the newest position in the broker, once per period.
//!
//! ```text
//!   ring ──▶ batch of scopes ──▶ Command::Tops ──▶ as expected ──────────────────────────▶ nothing to do
//!                                              ├─▶ broker is behind: erased or set back ──▶ read the history
//!                                              └─▶ broker is ahead ──▶ fence ──▶ still ahead: read the history
//! ```
//!
//! If the last message of a scope is lost on its way to this instance, no later message shows the hole and the
//! connection looks healthy: only a comparison finds it. If the broker is ahead, the message may still be under way.
//! The scope is therefore subscribed once more (the fence): what has not arrived when that is confirmed never arrives.
//!
//! The requests also keep the metadata of the scopes from expiring ([`RingPlace::renewal`]).
//!
//! After the comparison a scope returns to the end of the ring. The ring advances evenly, so that ten thousand scopes
//! are not compared in one burst.

use std::collections::VecDeque;

use hashbrown::HashMap;
use keyspace::Keyspace;
use wire::{Position, Scope};

use super::Router;
use super::interest::{Interest, RouterContext};
use super::output::Output;
use crate::broker::{BrokerError, Command, Ticket};

/// Most scopes in one request: about 10 KiB. Redis serves other clients between two requests.
const BATCH_SCOPES_MAX: usize = 128;
/// Most requests in flight. A slow broker gets fewer of them.
const BATCHES_MAX: usize = 8;
/// A longer time between two sweeps counts as this much: it was a pause of this process or of the broker, and the
/// missed checks are not made up for.
const SWEEP_MS_MAX: u64 = 1_000;

/// Time between two renewals of a scope's metadata, in seconds. A scope without a message is kept for an hour only.
const RENEWAL_S: u64 = 30 * 60;
const UNUSED_RENEWAL_S: u64 = 5 * 60;

/// Up to this many places of removed scopes stay in the ring.
const GONE_KEPT: usize = 1_024;

/// The scopes that wait for their check, and those that are being checked.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Every scope once, in the order of the checks, except those in `asked`. The place of a removed scope stays until
    /// its turn, or until most places are of this kind: while the broker is away nothing advances.
    ring: VecDeque<RingPlace>,
    /// Upper bound of the number of scopes removed since the last cleanup.
    gone: usize,
    asked: VecDeque<CheckBatch>,
    /// The broker's position of each scope that waits for a fence.
    ahead: HashMap<Scope, Position>,
    /// Time of the last advance of the ring.
    turned_ms: u64,
    /// Credit for checks, in scopes times milliseconds.
    credit: u64,
    last_mark: u32,
}

/// The place of one scope in the ring.
#[derive(Debug)]
struct RingPlace {
    scope: Scope,
    /// Mark of the interest. A scope that was removed and is needed again has another mark.
    mark: u32,
    /// Time from which its metadata is renewed with a check, in seconds.
    renewal_s: u32,
}

/// One request for newest positions.
#[derive(Debug)]
struct CheckBatch {
    ticket: Ticket,
    /// Each with the position that had been handed on when the request was sent.
    places: Vec<(RingPlace, Position)>,
}

impl Checks {
    /// Adds a new scope to the ring and returns its mark.
    pub(super) fn enter(&mut self, scope: &Scope) -> u32 {
        self.last_mark = self.last_mark.wrapping_add(1);
        let mut place = RingPlace { scope: scope.clone(), mark: self.last_mark, renewal_s: 0 };
        // The read that follows renews it too.
        place.renew_after(self.turned_ms, UNUSED_RENEWAL_S);
        self.ring.push_back(place);
        self.last_mark
    }

    /// Notes that a scope was removed.
    pub(super) fn leave(&mut self, scope: &Scope, scopes: &HashMap<Scope, Interest>) {
        self.take_ahead(scope);
        self.gone += 1;
        if self.gone > self.ring.len() / 2 + GONE_KEPT {
            self.gone = 0;
            self.ring.retain(|place| scopes.get(&place.scope).is_some_and(|interest| interest.mark == place.mark));
            self.ring.shrink_to(2 * self.ring.len());
        }
    }

    /// The broker was lost: no answer will come.
    pub(super) fn lose(&mut self) {
        for batch in self.asked.drain(..) {
            self.ring.extend(batch.places.into_iter().map(|(place, _)| RingPlace { renewal_s: 0, ..place }));
        }
        self.ahead.clear();
        self.credit = 0;
    }

    /// Takes the broker's position that was noted when the fence was sent.
    pub(super) fn take_ahead(&mut self, scope: &Scope) -> Option<Position> {
        if self.ahead.is_empty() { None } else { self.ahead.remove(scope) }
    }

    /// Adds the elapsed time to the credit. At most one whole period of checks is due, however slowly the broker
    /// answers.
    fn turn(&mut self, now_ms: u64, period_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.turned_ms).min(SWEEP_MS_MAX);
        self.turned_ms = now_ms;
        let places = self.ring.len() + self.asked.iter().map(|batch| batch.places.len()).sum::<usize>();
        self.credit = (self.credit + places as u64 * elapsed_ms).min(places as u64 * period_ms);
    }

    /// The next place that is due.
    fn take_due(&mut self, period_ms: u64) -> Option<RingPlace> {
        self.credit = self.credit.checked_sub(period_ms)?;
        self.ring.pop_front()
    }
}

impl RingPlace {
    /// How long the metadata of the scope is kept from now on, in ms, if it is due for renewal. `top` is the newest
    /// position that was handed on.
    fn renewal(&mut self, top: Position, now_ms: u64) -> Option<u64> {
        if now_ms / 1_000 < u64::from(self.renewal_s) {
            return None;
        }
        let (kept_ms, again_s) = match top.offset {
            0 => (Keyspace::UNUSED_KEPT_MS, UNUSED_RENEWAL_S),
            _ => (Keyspace::META_KEPT_MS, RENEWAL_S),
        };
        self.renew_after(now_ms, again_s);
        Some(kept_ms)
    }

    fn renew_after(&mut self, now_ms: u64, seconds: u64) {
        self.renewal_s = u32::try_from(now_ms / 1_000 + seconds).unwrap_or(0);
    }
}

impl Router {
    /// Sends requests for the scopes whose check is due at `now_ms`.
    pub(super) fn check(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.is_up {
            self.checks.turn(now_ms, self.config.check_interval_ms);
            self.check_due(out);
        }
    }

    fn check_due(&mut self, out: &mut Vec<Output>) {
        while self.checks.asked.len() < BATCHES_MAX {
            let (mut places, mut renew) = (Vec::new(), Vec::new());
            while places.len() < BATCH_SCOPES_MAX {
                let Some(mut place) = self.checks.take_due(self.config.check_interval_ms) else { break };
                let Some(interest) = self.scopes.get(&place.scope).filter(|i| i.mark == place.mark) else { continue };
                match interest.stream.live().filter(|_| !interest.shards.is_empty()) {
                    Some(top) => {
                        let renewal = place.renewal(top, self.checks.turned_ms);
                        renew.extend(renewal.map(|kept_ms| (places.len(), kept_ms)));
                        places.push((place, top));
                    }
                    // Its history is being read, or no shard needs it.
                    None => self.checks.ring.push_back(place),
                }
            }
            if places.is_empty() {
                return;
            }
            let ticket = self.reads.ticket();
            let scopes = places.iter().map(|(place, _)| place.scope.clone()).collect();
            out.push(Output::Command(Command::Tops { ticket, scopes, renew }));
            self.checks.asked.push_back(CheckBatch { ticket, places });
        }
    }

    /// The broker has answered a request for newest positions.
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
                // One sweep may not have covered all scopes that were due.
                self.check_due(out);
            }
            None => {
                // These scopes come first when time has advanced.
                self.counts.checks_failed += 1;
                for (place, _) in places.into_iter().rev() {
                    self.checks.ring.push_front(RingPlace { renewal_s: 0, ..place });
                }
            }
        }
    }

    /// Compares one scope. `asked` is the position that had been handed on when the request was sent, `top` the
    /// broker's.
    fn compare(&mut self, place: RingPlace, asked: Position, top: Option<Position>, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(&place.scope).filter(|i| i.mark == place.mark) else { return };
        self.counts.checks += 1;
        match (interest.stream.live(), top) {
            // Its history is being read.
            (None, _) => {}
            // The last fence is not confirmed yet: the next check decides.
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
    fn scopes_removed_while_the_broker_is_away_do_not_stay_in_the_ring() {
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
        assert!(checks.ring.iter().any(|place| place.scope == scope(0)), "a needed scope keeps its place");
    }

    #[test]
    fn tables_shrink_after_many_scopes_were_removed() {
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
