//! PURE. Which shards want which scope, and what they are to be handed of it.
//!
//! The router is told what shards want and what the broker says, and answers with [`Output`]s. It counts
//! interest, keeps every scope contiguous (see the `stream` module), repairs what an outage tore, and lets each
//! joiner in at a point in the stream without a hole or a duplicate. While the broker is away it says by family what
//! becomes of a publish. It does no I/O and is handed the time.

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

/// What an operator may tune.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The families, for what they keep.
    pub policies: Policies,
    /// How long a scope that nobody wants stays subscribed: page reloads leave and rejoin within a second.
    pub linger_ms: u64,
    /// Most entries in one page of catching up.
    pub page_entries_max: usize,
    /// Most bytes held per scope while its history is read. Beyond that they are dropped and read again.
    pub held_bytes_max: usize,
    /// How many scopes are subscribed and repaired at the same time after an outage, so that Redis, which has
    /// just come back, is not asked about all of them at once.
    pub resync_scopes_max: usize,
    /// How often each scope is compared with the broker's newest position: a dropped message that no later one shows
    /// is noticed within this, and a sweep.
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

/// Tables up to this size are not made smaller.
const TABLE_KEPT: usize = 1_024;

/// Interest and contiguity of every scope on this instance.
///
/// The tickets of its commands have their highest bit set; those without it are for publishing through the same
/// broker.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    scopes: HashMap<Scope, Interest>,
    reads: Reads,
    checks: Checks,
    /// Scopes that nobody wants, by when to look at them again.
    lingering: VecDeque<(u64, Scope)>,
    /// Scopes that wait for their turn to be subscribed again.
    resync: VecDeque<Scope>,
    /// Scopes whose turn it is.
    resyncing: usize,
    /// The broker can be asked.
    is_up: bool,
    /// The broker was lost and not every scope is repaired. True at first.
    is_degraded: bool,
    /// That it is degraded has been told. False at first: then the broker may be there in a moment.
    got_degraded: bool,
    /// Since the broker was lost.
    isolation: Isolation,
    counts: RouterCounts,
}

impl Router {
    /// A router that nobody has asked for anything. It is degraded until the broker is up.
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

    /// Somebody on `shard` wants `scope`, from the lowest position of `after` on if there is one. Messages flow to the
    /// shard from this call on; the answer is one [`Joined`], preceded by an interim one if the broker cannot be asked
    /// now. Each of the positions is judged by itself: that one is lost says nothing of the others.
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

    /// The last member on `shard` left `scope`. Joiners there are not answered any more.
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

    /// Whether the broker is lost: what is published now stays on this instance, or is refused.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolation.is_on
    }

    /// Gives messages to the broker or, while that is away and if their family wants it, to the members on this
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

    /// A publish of this id is answered by nobody: it is not to stay on this instance until the broker can be asked.
    pub fn doubt(&mut self, scope: Scope, id: Box<str>) {
        self.isolation.doubt(scope, id);
    }

    /// Takes what the broker said. `Published` is the business of whoever published.
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

    /// Lets go of scopes that nobody wanted for the linger time, asks failed questions again, and compares scopes with
    /// the broker. To be called a few times a second.
    pub fn sweep(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        while self.lingering.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, scope) = self.lingering.pop_front().expect("just seen");
            let Some(interest) = self.scopes.get_mut(&scope).filter(|interest| interest.is_lingering) else { continue };
            let due_ms = interest.idle_since_ms + self.config.linger_ms;
            if !interest.shards.is_empty() {
                interest.is_lingering = false;
            } else if due_ms > now_ms || !interest.stream.is_subscribed() || interest.fences > 0 {
                // Never unsubscribed unconfirmed: a late confirmation would be taken for that of the next subscribe.
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

    /// What thousands took who are gone is given back: a table of which less than a quarter is used.
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

    /// How many scopes are wanted or linger.
    #[must_use]
    pub fn scopes(&self) -> usize {
        self.scopes.len()
    }

    /// Whether the broker is lost, or back and not every scope repaired. [`Output::Degraded`] tells its changes.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.is_degraded
    }

    /// What was seen, for metrics.
    #[must_use]
    pub fn counts(&self) -> RouterCounts {
        self.counts
    }

    /// The hot path: one lookup, nothing allocated.
    fn receive(&mut self, scope: &[u8], envelope: Bytes, out: &mut Vec<Output>) {
        let found = std::str::from_utf8(scope).ok().and_then(|text| self.scopes.get_key_value_mut(text));
        // Unsubscribed a moment ago.
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
            // An interruption that was over before it was told of.
            self.down(out);
        }
        self.is_up = true;
        // Before anything is repaired: a local message stands behind what was heard before the outage, and before
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

    /// One scope's subscription has ended.
    fn lose(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(scope) else { return };
        if !interest.stream.is_subscribed() {
            return; // That was an earlier one, given up since and asked for again.
        }
        self.counts.lost += 1;
        interest.questions().for_each(|ticket| self.reads.forget(ticket));
        interest.lose();
        if interest.fences > 0 {
            // Asked for again already.
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

    /// A scope whose turn it was may be done.
    fn resynced(&mut self, scope: &Scope, out: &mut Vec<Output>) {
        let Some(interest) = self.scopes.get_mut(scope) else { return };
        if interest.is_resyncing && interest.stream.live().is_some() {
            interest.is_resyncing = false;
            self.resyncing -= 1;
            self.resync_next(out);
        }
    }

    /// Scopes by name: hash order differs from run to run, and a run under a seed should not.
    fn in_order(&self, filter: impl Fn(&Interest) -> bool) -> Vec<Scope> {
        let mut scopes: Vec<_> =
            self.scopes.iter().filter(|(_, i)| filter(i)).map(|(scope, _)| scope.clone()).collect();
        scopes.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        scopes
    }

    /// Forgets a scope and what is in flight for it.
    fn remove(&mut self, scope: &Scope) {
        let Some(interest) = self.scopes.remove(scope) else { return };
        interest.questions().for_each(|ticket| self.reads.forget(ticket));
        self.checks.leave(scope, &self.scopes);
        if interest.is_resyncing && !interest.stream.is_unsubscribed() {
            self.resyncing -= 1;
        }
    }

    /// Subscribes the next scopes after an outage, and tells when the last one is done.
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

/// The positions of an envelope's first and last message; none if it cannot be read to its end, or is empty.
fn extent(envelope: &[u8]) -> Option<(Position, Position)> {
    let envelope = Envelope::parse(envelope).ok()?;
    let mut last = None;
    for item in envelope.items() {
        last = Some(item.ok()?.0);
    }
    Some((envelope.first, last?))
}
