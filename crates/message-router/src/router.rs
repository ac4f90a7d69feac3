//! PURE. The router: which shards need which scope, and what is handed to them.
//!
//! Its inputs are the needs of the shards and the events of the broker; its results are [`Output`]s. It counts
//! interest, keeps every scope contiguous (see the `stream` module), repairs scopes after an outage, and lets each
//! joiner enter the stream without a hole or a duplicate. While the broker is away it decides by family what happens to
//! a publish. It does no I/O, and the time is passed to it.

mod checks;
mod counts;
mod interest;
mod isolation;
mod joins;
mod output;
mod positions;
mod reads;
mod shard;

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use wire::{Envelope, Position, Scope};

pub use counts::RouterCounts;
pub use isolation::Taken;
pub use output::{Joined, Joiner, Output, Start};
pub use positions::Positions;
pub use shard::{ShardIndex, ShardSet};

use crate::broker::{Command, Event, Publish};
use crate::route::{OnIsolation, Policies};
use checks::Checks;
use interest::{Interest, RouterContext};
use isolation::Isolation;
use reads::Reads;

/// Configuration of a [`Router`].
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The families and their retention.
    pub policies: Policies,
    /// How long a scope that no shard needs stays subscribed: a page reload leaves and rejoins within a second.
    pub linger_ms: u64,
    /// Most entries in one page of history.
    pub page_entries_max: usize,
    /// Most bytes held per scope while its history is read. Above this limit the held messages are dropped and read
    /// from history.
    pub held_bytes_max: usize,
    /// How many scopes are subscribed and repaired at the same time after an outage. This limits the load on a Redis
    /// that has just come back.
    pub resync_scopes_max: usize,
    /// How often each scope is compared with the broker's newest position. A lost message that no later message shows
    /// is noticed within this time and one sweep.
    pub check_interval_ms: u64,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            policies: Policies::default(),
            linger_ms: 2_000,
            page_entries_max: 512,
            held_bytes_max: 1024 * 1024,
            resync_scopes_max: 512,
            check_interval_ms: 30_000,
        }
    }
}

/// Tables up to this capacity are not shrunk.
const TABLE_KEPT: usize = 1_024;

/// Interest and contiguity of every scope on this instance.
///
/// The tickets of the router's commands have their highest bit set. Tickets without that bit are free for publishes
/// through the same broker.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    scopes: HashMap<Scope, Interest>,
    reads: Reads,
    checks: Checks,
    /// Scopes that no shard needs, with the time of their next inspection.
    lingering: VecDeque<(u64, Scope)>,
    /// Scopes that wait to be subscribed again.
    resync: VecDeque<Scope>,
    /// Number of scopes that are being subscribed again.
    resyncing: usize,
    /// The broker takes commands.
    is_up: bool,
    /// The broker was lost, and not every scope is repaired yet. True at the start.
    is_degraded: bool,
    /// [`Output::Degraded`] has reported it. False at the start, when the broker may be there in a moment.
    got_degraded: bool,
    /// The state since the broker was lost.
    isolation: Isolation,
    counts: RouterCounts,
}

impl Router {
    /// A router without interest in any scope. It is degraded until the broker is up.
    #[must_use]
    pub fn new(config: RouterConfig) -> Self {
        assert!(config.page_entries_max > 0, "a page has entries");
        assert!(config.resync_scopes_max > 0, "at least one scope is repaired at a time");
        assert!(config.check_interval_ms > 0, "a period is more than nothing");
        Self {
            config,
            scopes: HashMap::new(),
            reads: Reads::default(),
            checks: Checks::default(),
            lingering: VecDeque::new(),
            resync: VecDeque::new(),
            resyncing: 0,
            is_up: false,
            is_degraded: true,
            got_degraded: false,
            isolation: Isolation::default(),
            counts: RouterCounts::default(),
        }
    }

    /// A joiner on `shard` needs `scope`, from the lowest position of `after` on if there is one. From this call on the
    /// shard receives messages of the scope. The answer is one [`Joined`]; an interim one comes first if the broker is
    /// away now. Each position of `after` is judged by itself: if one is lost, the others may still be honoured.
    pub fn join(
        &mut self,
        shard: ShardIndex,
        joiner: Joiner,
        scope: Scope,
        after: impl Into<Positions>,
        out: &mut Vec<Output>,
    ) {
        let mut context =
            RouterContext { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out: &mut *out };
        let checks = &mut self.checks;
        let interest = self.scopes.entry(scope.clone()).or_insert_with(|| Interest::new(checks.enter(&scope)));
        interest.join(shard, joiner, &scope, after.into(), &mut context);
        if !self.is_up {
            interest.send_degraded(&scope, out);
        } else if interest.stream.is_unsubscribed() && !interest.is_resyncing {
            interest.subscribe(&scope, out);
        }
    }

    /// The last member on `shard` left `scope`. Its waiting joiners are not answered any more.
    pub fn leave(&mut self, shard: ShardIndex, scope: &Scope, now_ms: u64) {
        let Some(interest) = self.scopes.get_mut(scope) else { return };
        if !interest.leave(shard) {
            return;
        }
        if !self.is_up {
            self.remove(scope);
            return;
        }
        interest.idle_since_ms = now_ms;
        if !std::mem::replace(&mut interest.is_lingering, true) {
            self.lingering.push_back((now_ms + self.config.linger_ms, scope.clone()));
        }
    }

    /// Whether the broker is lost. If so, publishes stay on this instance or are refused.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolation.is_on
    }

    /// Passes messages to the broker. If the broker is away and the family allows it, they go to the members on this
    /// instance alone: at once, without positions, and with a gap for the scope when the broker is back.
    pub fn publish(&mut self, publish: Publish, out: &mut Vec<Output>) -> Taken {
        if !self.isolation.is_on {
            out.push(Output::Command(Command::Publish(publish)));
            return Taken::Asked;
        }
        let Publish { scope, mut messages, .. } = publish;
        if self.config.policies.policy(scope.family()).on_isolation == OnIsolation::ReadOnly {
            return Taken::ReadOnly;
        }
        let taken = self.isolation.take(&scope, &mut messages);
        if taken != Taken::Local {
            return taken;
        }
        self.counts.local += messages.len() as u64;
        let shards = self.scopes.get(&scope).map(|interest| interest.shards).unwrap_or_default();
        if !shards.is_empty() {
            out.push(Output::Local { shards, scope, messages });
        }
        Taken::Local
    }

    /// A publish with this id was not answered. Until the broker is back, a publish with this id is refused, so that it
    /// is not delivered locally in addition.
    pub fn doubt(&mut self, scope: Scope, id: Box<str>) {
        self.isolation.doubt(scope, id);
    }

    /// Handles an event of the broker. [`Event::Published`] is handled by the code that published.
    pub fn handle(&mut self, event: Event, now_ms: u64, out: &mut Vec<Output>) {
        match event {
            Event::Message { scope, envelope } => self.receive(&scope, envelope, out),
            Event::Subscribed(scope) => {
                let Some(interest) = self.scopes.get_mut(&scope) else { return };
                let checked = if interest.fences <= 1 { self.checks.take_ahead(&scope) } else { None };
                let mut context = RouterContext {
                    config: &self.config,
                    reads: &mut self.reads,
                    counts: &mut self.counts,
                    out: &mut *out,
                };
                interest.subscribed(&scope, checked, &mut context);
                self.resynced(&scope, out);
            }
            Event::Lost(scope) => self.lose(&scope, out),
            Event::Tops { ticket, result } => self.checked(ticket, result, out),
            Event::History { ticket, result } => {
                let Some(scope) = self.reads.answered(ticket) else { return };
                let Some(interest) = self.scopes.get_mut(&scope) else { return };
                let mut context = RouterContext {
                    config: &self.config,
                    reads: &mut self.reads,
                    counts: &mut self.counts,
                    out: &mut *out,
                };
                interest.answered(&scope, ticket, result, now_ms, &mut context);
                self.resynced(&scope, out);
            }
            Event::LossNoted { ticket, result } => {
                let Some(scope) = self.reads.answered(ticket) else { return };
                let Some(interest) = self.scopes.get_mut(&scope) else { return };
                let mut context = RouterContext {
                    config: &self.config,
                    reads: &mut self.reads,
                    counts: &mut self.counts,
                    out: &mut *out,
                };
                interest.loss_noted(&scope, ticket, result.is_ok(), now_ms, &mut context);
            }
            Event::Up => self.up(out),
            Event::Down(_) => self.down(out),
            Event::Published { .. } => {}
        }
    }

    /// Unsubscribes scopes that no shard needed for the linger time, repeats failed requests, and compares scopes with
    /// the broker. The caller calls it a few times a second.
    pub fn sweep(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        while self.lingering.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, scope) = self.lingering.pop_front().expect("just seen");
            let Some(interest) = self.scopes.get_mut(&scope).filter(|interest| interest.is_lingering) else { continue };
            let due_ms = interest.idle_since_ms + self.config.linger_ms;
            if !interest.shards.is_empty() {
                interest.is_lingering = false;
            } else if due_ms > now_ms || !interest.stream.is_subscribed() || interest.fences > 0 {
                // Never unsubscribed before the confirmation: a late confirmation would be taken for that of the next
                // subscribe.
                self.lingering.push_back((due_ms.max(now_ms + 1), scope));
            } else {
                self.remove(&scope);
                out.push(Output::Command(Command::Unsubscribe(scope)));
                self.resync_next(out);
            }
        }
        while let Some((ticket, scope)) = self.reads.due(now_ms) {
            let Some(interest) = self.scopes.get_mut(&scope) else { continue };
            let mut context = RouterContext {
                config: &self.config,
                reads: &mut self.reads,
                counts: &mut self.counts,
                out: &mut *out,
            };
            interest.ask_again(&scope, ticket, &mut context);
        }
        self.check(now_ms, out);
        self.shrink();
    }

    /// Shrinks tables after many scopes were removed: those of which less than a quarter is used.
    fn shrink(&mut self) {
        let kept = |len: usize| 2 * len;
        let should_shrink = |capacity: usize, len: usize| capacity > TABLE_KEPT && capacity / 4 > len;
        if should_shrink(self.scopes.capacity(), self.scopes.len()) {
            self.scopes.shrink_to(kept(self.scopes.len()));
        }
        if should_shrink(self.lingering.capacity(), self.lingering.len()) {
            self.lingering.shrink_to(kept(self.lingering.len()));
        }
    }

    /// Number of scopes that a shard needs or that linger.
    #[must_use]
    pub fn scopes(&self) -> usize {
        self.scopes.len()
    }

    /// Whether the broker is lost, or back while not every scope is repaired. [`Output::Degraded`] reports the changes.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.is_degraded
    }

    /// Totals since the start of the process, for metrics.
    #[must_use]
    pub fn counts(&self) -> RouterCounts {
        self.counts
    }

    /// The hot path: one lookup, no allocation.
    fn receive(&mut self, scope: &[u8], envelope: Bytes, out: &mut Vec<Output>) {
        let found = std::str::from_utf8(scope).ok().and_then(|text| self.scopes.get_key_value_mut(text));
        // The scope was unsubscribed a moment ago.
        let Some((scope, interest)) = found else { return };
        let Some((first, last)) = extent(&envelope) else {
            self.counts.bad_envelopes += 1;
            return;
        };
        let mut context = RouterContext { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out };
        interest.receive(scope, first, last, envelope, &mut context);
    }

    fn up(&mut self, out: &mut Vec<Output>) {
        if self.is_up {
            // An interruption that ended before it was reported.
            self.down(out);
        }
        self.is_up = true;
        // This comes before any repair: local messages come after what was delivered before the outage, and before
        // everything that the repair brings.
        for scope in self.isolation.end() {
            let shards = self.scopes.get(&scope).map(|interest| interest.shards).unwrap_or_default();
            if !shards.is_empty() {
                out.push(Output::Isolated { shards, scope });
            }
        }
        self.scopes.values_mut().for_each(|interest| interest.is_resyncing = true);
        self.resync = self.in_order(|_| true).into();
        self.resync_next(out);
    }

    fn down(&mut self, out: &mut Vec<Output>) {
        self.is_up = false;
        self.reads.forget_all();
        self.checks.lose();
        self.lingering.clear();
        self.resync.clear();
        self.resyncing = 0;
        self.isolation.is_on = true;
        self.is_degraded = true;
        if !std::mem::replace(&mut self.got_degraded, true) {
            out.push(Output::Degraded { degraded: true });
        }
        self.scopes.retain(|_, interest| !interest.shards.is_empty());
        self.scopes.values_mut().for_each(Interest::lose_broker);
        for scope in self.in_order(Interest::has_joiners) {
            if let Some(interest) = self.scopes.get_mut(&scope) {
                interest.send_degraded(&scope, out);
            }
        }
    }

    /// The subscription to one scope has ended.
    fn lose(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(scope) else { return };
        if !interest.stream.is_subscribed() {
            return; // It was an earlier subscription, which has been given up and requested again since.
        }
        self.counts.lost += 1;
        interest.questions().for_each(|ticket| self.reads.forget(ticket));
        interest.lose();
        if interest.fences > 0 {
            // The fence has subscribed it again already.
            interest.fences -= 1;
            interest.stream.subscribe();
            return;
        }
        if std::mem::replace(&mut interest.is_resyncing, true) {
            self.resyncing -= 1;
        }
        self.resync.push_back(scope.clone());
        self.resync_next(out);
    }

    /// A scope that was being subscribed again may be complete now.
    fn resynced(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(scope) else { return };
        if interest.is_resyncing && interest.stream.live().is_some() {
            interest.is_resyncing = false;
            self.resyncing -= 1;
            self.resync_next(out);
        }
    }

    /// The matching scopes sorted by name. The order of a hash table differs between runs; a run with a seed must be
    /// repeatable.
    fn in_order(&self, filter: impl Fn(&Interest) -> bool) -> Vec<Scope> {
        let mut scopes: Vec<_> =
            self.scopes.iter().filter(|(_, i)| filter(i)).map(|(scope, _)| scope.clone()).collect();
        scopes.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        scopes
    }

    /// Forgets a scope and its requests in flight.
    fn remove(&mut self, scope: &Scope) {
        let Some(interest) = self.scopes.remove(scope) else { return };
        interest.questions().for_each(|ticket| self.reads.forget(ticket));
        self.checks.leave(scope, &self.scopes);
        if interest.is_resyncing && !interest.stream.is_unsubscribed() {
            self.resyncing -= 1;
        }
    }

    /// Subscribes the next scopes after an outage, and reports the end of the degraded state after the last one.
    fn resync_next(&mut self, out: &mut Vec<Output>) {
        while self.resyncing < self.config.resync_scopes_max {
            let Some(scope) = self.resync.pop_front() else { break };
            let Some(interest) = self.scopes.get_mut(&scope) else { continue };
            debug_assert!(interest.is_resyncing, "it waits for its turn once, and nobody else subscribes it");
            if interest.shards.is_empty() {
                self.remove(&scope);
                continue;
            }
            interest.subscribe(&scope, out);
            self.resyncing += 1;
        }
        if self.is_up && self.resyncing == 0 && self.resync.is_empty() && self.is_degraded {
            (self.is_degraded, self.got_degraded) = (false, false);
            out.push(Output::Degraded { degraded: false });
        }
    }
}

/// The positions of the first and the last message of an envelope. None if it cannot be parsed to its end, or is empty.
fn extent(envelope: &[u8]) -> Option<(Position, Position)> {
    let envelope = Envelope::parse(envelope).ok()?;
    let mut last = None;
    for item in envelope.items() {
        last = Some(item.ok()?.0);
    }
    Some((envelope.first, last?))
}
