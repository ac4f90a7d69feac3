//! PURE. Decides whether this instance has more than its share of the fleet's clients, and how many move to other
//! instances now.
//!
//! ```text
//!   Quiet ──too many, for a while──▶ Moving ──round is complete──▶ Settling ──it helped──▶ Moving, twice as many
//!     ▲                                                              ├─────enough moved──▶ Quiet
//!     └──────────── a while, longer each time ◀──── Pausing ◀──────┘ they came back
//! ```
//!
//! After a scale-out the new instances are empty and the old ones stay full, as long as clients stay connected.
//! Rounds begin small: if clients cannot reach the emptier instances, because a load balancer does not know them yet
//! or they are in another place, only ten clients are affected. Clients are moved only if every peer is alive,
//! reports its load, and does not drain.

use std::time::{Duration, Instant};

use crate::config::RebalanceConfig;
use crate::instance::fleet::{Fleet, rate};

/// Time from one decision to the next while clients move.
pub(crate) const SLOT: Duration = Duration::from_millis(100);

/// Heartbeats for which there must be too many connections before clients move: new clients may balance the fleet,
/// and a load balancer has to find a new instance.
const PATIENCE_HEARTBEATS: u32 = 5;
/// Largest age of the peers' loads, in heartbeats.
const STALE_HEARTBEATS: u32 = 2;
/// Heartbeats after a round by which every moved client has reconnected somewhere, and the peers have reported it.
const SETTLING_HEARTBEATS: u32 = 3;
/// Length of the pause after a round that did not help, in heartbeats. It doubles with each further one, at most
/// [`PAUSES_MAX`] times.
const PAUSE_HEARTBEATS: u32 = 30;
/// Largest number of doublings of the pause.
const PAUSES_MAX: u32 = 6;
/// Number of clients in the first round.
const ROUND_MIN: u64 = 10;
/// Longest round, in seconds at the configured rate.
const ROUND_SECONDS_MAX: u64 = 10;
/// A round has helped if the number of connections fell by at least one in this many moved clients. A load balancer
/// that chooses at random sends some clients back.
const HELPED_ONE_IN: u64 = 4;

/// The load of this instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OwnLoad {
    /// Number of open connections.
    pub(crate) connections: u64,
    /// Clients moved since the process began.
    pub(crate) moved: u64,
    /// Whether the instance serves clients without restriction.
    pub(crate) is_full: bool,
}

#[derive(Debug)]
pub(crate) struct Rebalance {
    config: RebalanceConfig,
    heartbeat: Duration,
    state: State,
    /// Number of clients in the next round.
    round: u64,
    /// Number of consecutive rounds that did not help.
    futile: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// With the time since which there are too many connections; `None` if there are not.
    Quiet(Option<Instant>),
    Moving(Round),
    Settling(Round, Instant),
    Pausing(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Round {
    /// The load at the beginning of the round.
    before: OwnLoad,
    /// Clients asked to move so far.
    asked: u64,
    /// Time of the last decision.
    at: Instant,
    /// Fraction of a client that was left over at the last decision.
    part: f64,
    /// Connections that this instance keeps. It is fixed at the beginning, because moving clients are counted by no
    /// instance, so the mean seems lower.
    keep: u64,
}

/// The excess of connections: how many to keep, and how fast to move the others.
struct Surplus {
    keep: u64,
    per_second: f64,
}

impl Rebalance {
    pub(crate) fn new(config: RebalanceConfig, heartbeat: Duration) -> Self {
        Self { config, heartbeat, state: State::Quiet(None), round: ROUND_MIN, futile: 0 }
    }

    /// Whether clients are moving. Then decisions follow every [`SLOT`], not only after the peers' heartbeats, and
    /// the edge diverts clients whose cookie brings them back.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, State::Moving(_) | State::Settling(..))
    }

    /// Number of consecutive rounds that did not help.
    pub(crate) fn futile(&self) -> u32 {
        self.futile
    }

    /// Returns how many clients must move now.
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

    /// Returns the excess above the mean of the instances that serve without restriction, if one of them is below the
    /// mean. While clients move, half the tolerance is the limit, so that the next client does not begin a new round.
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
        // The emptier instances must accept other clients too.
        let takes = below.map(rate).fold(0, u64::saturating_add) / 2;
        let shedding = 1 + fleet.full().filter(|load| load.connections as f64 > level(1.0)).count();
        let per_second = (takes as f64 / shedding as f64).min(f64::from(per_second));
        (takes > 0).then(|| Surplus { keep: level(0.5).ceil() as u64, per_second })
    }

    fn begin(&mut self, now: Instant, own: OwnLoad, surplus: &Surplus) {
        self.state = State::Moving(Round { before: own, asked: 0, at: now, part: 0.0, keep: surplus.keep });
    }

    fn go_on(&mut self, now: Instant, own: OwnLoad, mut round: Round, surplus: Option<Surplus>) -> u64 {
        // A client that was asked to move may still be connected.
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
            // No client moved, because all have connected too recently.
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
