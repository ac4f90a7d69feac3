//! PURE. Which shards want which scope, and what they are to be handed of it.
//!
//! The router is told what shards want and what the broker says, and answers with [`Output`]s. It counts
//! interest, keeps every scope contiguous (see the `stream` module), repairs what an outage tore, and lets each
//! joiner in at a point in the stream without a hole or a duplicate. It does no I/O and is handed the time.

mod counts;
mod interest;
mod joins;
mod output;
mod reads;
mod shard;

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use wire::{Envelope, Position, Scope};

pub use counts::RouterCounts;
pub use output::{Joined, Joiner, Output, Start};
pub use shard::{ShardIndex, ShardSet};

use crate::broker::{Command, Event};
use crate::route::Policies;
use interest::{Desk, Interest};
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
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            policies: Policies::default(),
            linger_ms: 2_000,
            page_entries_max: 512,
            held_bytes_max: 1024 * 1024,
            resync_scopes_max: 512,
        }
    }
}

/// Interest and contiguity of every scope on this instance.
///
/// The tickets of its commands have their highest bit set; those without it are for publishing through the same
/// broker.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    scopes: HashMap<Scope, Interest>,
    reads: Reads,
    /// Scopes that nobody wants, by when to look at them again.
    lingering: VecDeque<(u64, Scope)>,
    /// Scopes that wait for their turn after an outage.
    resync: VecDeque<Scope>,
    /// Scopes whose turn it is.
    resyncing: usize,
    /// The broker can be asked.
    is_up: bool,
    /// The broker was lost and not every scope is repaired. True at first.
    is_degraded: bool,
    counts: RouterCounts,
}

impl Router {
    /// A router that nobody has asked for anything. It is degraded until the broker is up.
    #[must_use]
    pub fn new(config: RouterConfig) -> Self {
        assert!(config.page_entries_max > 0, "a page has entries");
        assert!(config.resync_scopes_max > 0, "at least one scope is repaired at a time");
        Self {
            config,
            scopes: HashMap::new(),
            reads: Reads::default(),
            lingering: VecDeque::new(),
            resync: VecDeque::new(),
            resyncing: 0,
            is_up: false,
            is_degraded: true,
            counts: RouterCounts::default(),
        }
    }

    /// Somebody on `shard` wants `scope`, from `after` on if given. Messages flow to the shard from this call on;
    /// the answer is one [`Joined`], preceded by an interim one if the broker cannot be asked now.
    pub fn join(
        &mut self,
        shard: ShardIndex,
        joiner: Joiner,
        scope: Scope,
        after: Option<Position>,
        out: &mut Vec<Output>,
    ) {
        let mut desk = Desk { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out: &mut *out };
        let interest = self.scopes.entry(scope.clone()).or_default();
        interest.join(shard, joiner, &scope, after, &mut desk);
        if !self.is_up {
            interest.tell_degraded(&scope, out);
        } else if interest.stream.is_unheard() && !interest.is_resyncing {
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

    /// Takes what the broker said. `Published` is the business of whoever published.
    pub fn handle(&mut self, event: Event, now_ms: u64, out: &mut Vec<Output>) {
        match event {
            Event::Message { scope, envelope } => self.hear(&scope, envelope, out),
            Event::Subscribed(scope) => {
                if let Some((scope, interest)) = self.scopes.get_key_value_mut(&scope) {
                    let mut desk = Desk { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out };
                    interest.subscribed(scope, &mut desk);
                }
            }
            Event::History { ticket, result } => {
                let Some(scope) = self.reads.answered(ticket) else { return };
                let Some(interest) = self.scopes.get_mut(&scope) else { return };
                let mut desk =
                    Desk { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out: &mut *out };
                interest.answered(&scope, ticket, result, now_ms, &mut desk);
                if interest.is_resyncing && interest.stream.live().is_some() {
                    interest.is_resyncing = false;
                    self.resyncing -= 1;
                    self.resync_next(out);
                }
            }
            Event::Up => self.up(out),
            Event::Down(_) => self.down(out),
            Event::Published { .. } => {}
        }
    }

    /// Lets go of scopes that nobody wanted for the linger time and asks failed questions again. To be called
    /// a few times a second.
    pub fn sweep(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        while self.lingering.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, scope) = self.lingering.pop_front().expect("just seen");
            let Some(interest) = self.scopes.get_mut(&scope).filter(|interest| interest.is_lingering) else { continue };
            let due_ms = interest.idle_since_ms + self.config.linger_ms;
            if !interest.shards.is_empty() {
                interest.is_lingering = false;
            } else if due_ms > now_ms || !interest.stream.is_heard() {
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
            let mut desk =
                Desk { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out: &mut *out };
            interest.ask_again(&scope, ticket, &mut desk);
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
    fn hear(&mut self, scope: &[u8], envelope: Bytes, out: &mut Vec<Output>) {
        let found = std::str::from_utf8(scope).ok().and_then(|text| self.scopes.get_key_value_mut(text));
        // Unsubscribed a moment ago.
        let Some((scope, interest)) = found else { return };
        let Some((first, last)) = extent(&envelope) else {
            self.counts.bad_envelopes += 1;
            return;
        };
        let mut desk = Desk { config: &self.config, reads: &mut self.reads, counts: &mut self.counts, out };
        interest.hear(scope, first, last, envelope, &mut desk);
    }

    fn up(&mut self, out: &mut Vec<Output>) {
        if self.is_up {
            // An interruption that was over before it was told of.
            self.down(out);
        }
        self.is_up = true;
        self.scopes.values_mut().for_each(|interest| interest.is_resyncing = true);
        self.resync = self.in_order(|_| true).into();
        self.resync_next(out);
    }

    fn down(&mut self, out: &mut Vec<Output>) {
        self.is_up = false;
        self.reads.forget_all();
        self.lingering.clear();
        self.resync.clear();
        self.resyncing = 0;
        if !std::mem::replace(&mut self.is_degraded, true) {
            out.push(Output::Degraded { degraded: true });
        }
        self.scopes.retain(|_, interest| !interest.shards.is_empty());
        self.scopes.values_mut().for_each(Interest::lose);
        for scope in self.in_order(Interest::has_joiners) {
            if let Some(interest) = self.scopes.get_mut(&scope) {
                interest.tell_degraded(&scope, out);
            }
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
        if interest.is_resyncing && !interest.stream.is_unheard() {
            self.resyncing -= 1;
        }
    }

    /// Subscribes the next scopes after an outage, and tells when the last one is done.
    fn resync_next(&mut self, out: &mut Vec<Output>) {
        while self.resyncing < self.config.resync_scopes_max {
            let Some(scope) = self.resync.pop_front() else { break };
            let Some(interest) = self.scopes.get_mut(&scope).filter(|interest| interest.is_resyncing) else { continue };
            if interest.shards.is_empty() {
                self.remove(&scope);
                continue;
            }
            interest.subscribe(&scope, out);
            self.resyncing += 1;
        }
        if self.is_up && self.resyncing == 0 && self.resync.is_empty() && self.is_degraded {
            self.is_degraded = false;
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
