//! PURE. Whether this instance holds more than its share of the fleet's clients, and how many go elsewhere now.
//!
//! ```text
//!   Quiet ──too many, for a while──▶ Moving ──a round is out──▶ Settling ──it helped──▶ Moving, twice as many
//!     ▲                                                            ├─────enough went──▶ Quiet
//!     └──────────── a while, longer each time ◀──── Pausing ◀──────┘ they came back
//! ```
//!
//! After a scale-out the new instances are empty and the old ones full, for as long as clients stay. Rounds begin small:
//! where clients cannot reach the emptier instances, because a balancer does not know them yet or they stand elsewhere,
//! ten of them notice. Nothing is moved unless every peer is alive, tells how it is doing, and stays.

use std::time::{Duration, Instant};

use crate::config::RebalanceConfig;
use crate::instance::fleet::{Fleet, rate};

/// From one look to the next while clients are being moved.
pub(crate) const SLOT: Duration = Duration::from_millis(100);

/// So long must there be too many: new clients may level it, and a balancer has to find a new instance.
const PATIENCE_HEARTBEATS: u32 = 5;
/// So old may the peers' numbers be.
const STALE_HEARTBEATS: u32 = 2;
/// So long after a round everybody has come back somewhere, and the peers have told.
const SETTLING_HEARTBEATS: u32 = 3;
/// How long it rests after a round that did not help; twice as long each time, six times at most.
const PAUSE_HEARTBEATS: u32 = 30;
const PAUSES_MAX: u32 = 6;
/// The first round.
const ROUND_MIN: u64 = 10;
/// A round is no longer than this.
const ROUND_SECONDS_MAX: u64 = 10;
/// A round has helped if this instance has fewer than before by one in so many of those moved. A balancer that draws lots
/// brings some back.
const HELPED_ONE_IN: u64 = 4;

/// What this instance knows of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OwnLoad {
    /// Sockets held.
    pub(crate) connections: u64,
    /// Clients moved since the process began.
    pub(crate) moved: u64,
    /// It serves with all it has.
    pub(crate) is_full: bool,
}

#[derive(Debug)]
pub(crate) struct Rebalance {
    config: RebalanceConfig,
    heartbeat: Duration,
    state: State,
    /// How many go in the next round.
    round: u64,
    /// How many rounds in a row have not helped.
    futile: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Since when there have been too many.
    Quiet(Option<Instant>),
    Moving(Round),
    Settling(Round, Instant),
    Pausing(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Round {
    /// At its beginning.
    before: OwnLoad,
    /// Asked to go so far.
    asked: u64,
    /// When that was.
    at: Instant,
    /// What was short of a whole client.
    part: f64,
    /// So many this instance keeps. While clients are on their way they are in nobody's numbers, and the mean seems lower.
    keep: u64,
}

/// What there is too much of.
struct Surplus {
    keep: u64,
    per_second: f64,
}

impl Rebalance {
    pub(crate) fn new(config: RebalanceConfig, heartbeat: Duration) -> Self {
        Self { config, heartbeat, state: State::Quiet(None), round: ROUND_MIN, futile: 0 }
    }

    /// Whether clients are on their way: then it wants to look again after [`SLOT`], where otherwise the peers' next heartbeats are
    /// soon enough, and who comes back by its cookie is sent on.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, State::Moving(_) | State::Settling(..))
    }

    /// How many rounds in a row have not helped.
    pub(crate) fn futile(&self) -> u32 {
        self.futile
    }

    /// How many clients are to go now.
    pub(crate) fn look(&mut self, now: Instant, own: OwnLoad, fleet: &Fleet) -> u64 {
        let is_known = own.is_full && fleet.is_certain(now, self.heartbeat * STALE_HEARTBEATS) && !fleet.drains();
        let surplus = if is_known { self.surplus(own.connections, fleet) } else { None };
        match (self.state, surplus) {
            (State::Pausing(until), _) if now < until => {}
            (State::Moving(_) | State::Settling(..), _) if !is_known => self.stay_quiet(),
            (State::Moving(round), surplus) => return self.go_on(now, own, round, surplus),
            (State::Settling(_, until), _) if now < until => {}
            (State::Settling(round, _), surplus) => self.judge(now, own, round, surplus),
            (State::Quiet(_) | State::Pausing(_), None) => self.stay_quiet(),
            (State::Quiet(None) | State::Pausing(_), Some(_)) => self.state = State::Quiet(Some(now)),
            (State::Quiet(Some(since)), Some(surplus)) => {
                if now.saturating_duration_since(since) >= self.heartbeat * PATIENCE_HEARTBEATS {
                    self.begin(now, own, &surplus);
                }
            }
        }
        0
    }

    fn stay_quiet(&mut self) {
        (self.state, self.round) = (State::Quiet(None), ROUND_MIN);
    }

    /// What is above the mean of those who serve with all they have, if somebody is below it. Once it moves clients it goes
    /// half the tolerance further, so that it does not begin again with the next client.
    fn surplus(&self, own: u64, fleet: &Fleet) -> Option<Surplus> {
        let RebalanceConfig { tolerance, surplus_min, per_second, .. } = self.config;
        let (count, all) = fleet.full().fold((1, own), |(n, all), load| (n + 1, all + load.connections));
        let mean = all as f64 / f64::from(count);
        let level = |part: f64| (mean * (1.0 + part * tolerance)).max(mean + part * surplus_min as f64);
        let begun = if self.is_active() { 0.5 } else { 1.0 };
        if own as f64 <= level(begun) {
            return None;
        }
        let below = fleet.full().filter(|load| (load.connections as f64) < mean);
        // They have others to take in as well.
        let takes = below.map(rate).fold(0, u64::saturating_add) / 2;
        let shedding = 1 + fleet.full().filter(|load| load.connections as f64 > level(1.0)).count();
        let per_second = (takes as f64 / shedding as f64).min(f64::from(per_second));
        (takes > 0).then(|| Surplus { keep: level(0.5).ceil() as u64, per_second })
    }

    fn begin(&mut self, now: Instant, own: OwnLoad, surplus: &Surplus) {
        self.state = State::Moving(Round { before: own, asked: 0, at: now, part: 0.0, keep: surplus.keep });
    }

    fn go_on(&mut self, now: Instant, own: OwnLoad, mut round: Round, surplus: Option<Surplus>) -> u64 {
        // Who has been asked to go may not have gone yet.
        let above = own.connections.min(round.before.connections.saturating_sub(round.asked));
        let left = surplus.as_ref().map_or(0, |_| above.saturating_sub(round.keep).min(self.round - round.asked));
        let due = surplus.map_or(0.0, |surplus| surplus.per_second)
            * now.saturating_duration_since(round.at).as_secs_f64()
            + round.part;
        let count = left.min(due as u64);
        (round.at, round.part, round.asked) = (now, due.fract(), round.asked + count);
        self.state = match left == count {
            true => State::Settling(round, now + self.heartbeat * SETTLING_HEARTBEATS),
            false => State::Moving(round),
        };
        count
    }

    fn judge(&mut self, now: Instant, own: OwnLoad, round: Round, surplus: Option<Surplus>) {
        let moved = own.moved - round.before.moved;
        let fewer = round.before.connections.saturating_sub(own.connections);
        if moved == 0 {
            // All have come too recently.
            self.stay_quiet();
        } else if fewer >= moved.div_ceil(HELPED_ONE_IN) {
            self.futile = 0;
            let Some(surplus) = surplus else { return self.stay_quiet() };
            self.round = (2 * self.round).min(ROUND_SECONDS_MAX * u64::from(self.config.per_second)).max(ROUND_MIN);
            self.begin(now, own, &surplus);
        } else {
            let pause = self.heartbeat * (PAUSE_HEARTBEATS << self.futile.min(PAUSES_MAX));
            self.futile += 1;
            self.round = ROUND_MIN;
            self.state = State::Pausing(now + pause);
        }
    }
}

#[cfg(test)]
mod tests;
