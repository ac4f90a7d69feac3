//! PURE. A circuit breaker: whether to call a server that has not been answering. One caller finds out by waiting, and
//! the others do not wait.
//!
//! ```text
//!           FAILURES_MAX in a row             PAUSE is over: one trial goes
//!   Closed ───────────────────────▶ Open ───────────────────────────────────▶ Trying
//!     ▲                               ▲◀─────────────── it failed ──────────────┤
//!     └─────────────────────── an answer, to whomever ──────────────────────────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// After this many calls in a row without an answer, further calls are refused.
pub(crate) const FAILURES_MAX: u32 = 3;
/// How long calls are refused after the breaker has opened, and after each trial that failed.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// It is told what became of calls, and asked before each one.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// How long a call may take. A trial without a result after this time is over: its caller has left.
    deadline: Duration,
    state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    /// All calls may go.
    Closed { failures: u32 },
    /// No call may go before this time.
    Open { until: Instant },
    /// One trial has gone, and no other call may go before it is over.
    Trying { until: Instant },
}

impl Breaker {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { deadline, state: BreakerState::Closed { failures: 0 } }
    }

    /// Whether a call may go now. A call that goes while the breaker is open is the trial.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed { .. } => true,
            BreakerState::Open { until } | BreakerState::Trying { until } if now < until => false,
            BreakerState::Open { .. } | BreakerState::Trying { .. } => {
                self.state = BreakerState::Trying { until: now + self.deadline };
                true
            }
        }
    }

    /// Takes in that a call was answered, whatever the answer was. Returns whether this closes the breaker.
    pub(crate) fn answered(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = BreakerState::Closed { failures: 0 };
        was_open
    }

    /// Takes in that a call was not answered. Returns whether this opens the breaker.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let until = now + PAUSE;
        match &mut self.state {
            BreakerState::Closed { failures } if *failures + 1 < FAILURES_MAX => {
                *failures += 1;
                false
            }
            BreakerState::Closed { .. } => {
                self.state = BreakerState::Open { until };
                true
            }
            // Calls that had been sent before the breaker opened: the pause has begun.
            BreakerState::Open { .. } => false,
            BreakerState::Trying { .. } => {
                self.state = BreakerState::Open { until };
                false
            }
        }
    }

    /// Whether calls are refused, except for trials.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, BreakerState::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE_MS: u64 = 2_000;

    enum Step {
        /// Whether a call may go.
        Admits(bool),
        /// Whether the breaker closes.
        Answered(bool),
        /// Whether the breaker opens.
        Failed(bool),
    }
    use Step::{Admits, Answered, Failed};

    /// The steps of each case at their milliseconds, beginning with a closed breaker.
    const TABLE: &[(&str, &[(u64, Step)])] = &[
        ("two failures are nothing", &[(0, Failed(false)), (0, Failed(false)), (0, Admits(true)), (0, Admits(true))]),
        (
            "an answer between them forgives",
            &[(0, Failed(false)), (0, Failed(false)), (1, Answered(false)), (2, Failed(false)), (2, Admits(true))],
        ),
        (
            "three in a row open it, and those that had gone before change nothing",
            &[
                (0, Failed(false)),
                (0, Failed(false)),
                (0, Failed(true)),
                (400, Failed(false)),
                (499, Admits(false)),
                (500, Admits(true)),
            ],
        ),
        (
            "there is one trial at a time",
            &[
                (0, Failed(false)),
                (0, Failed(false)),
                (0, Failed(true)),
                (500, Admits(true)),
                (500, Admits(false)),
                (2_499, Admits(false)),
            ],
        ),
        (
            "a failed trial begins the pause anew, a good one ends it",
            &[
                (0, Failed(false)),
                (0, Failed(false)),
                (0, Failed(true)),
                (500, Admits(true)),
                (2_500, Failed(false)),
                (2_999, Admits(false)),
                (3_000, Admits(true)),
                (3_001, Answered(true)),
                (3_001, Admits(true)),
                (3_001, Admits(true)),
                (3_002, Failed(false)),
                (3_002, Admits(true)),
            ],
        ),
        (
            "a trial whose caller has left is over at its deadline",
            &[
                (0, Failed(false)),
                (0, Failed(false)),
                (0, Failed(true)),
                (500, Admits(true)),
                (500 + DEADLINE_MS - 1, Admits(false)),
                (500 + DEADLINE_MS, Admits(true)),
                (500 + DEADLINE_MS, Admits(false)),
            ],
        ),
        (
            "a late answer to one that had gone before closes it too",
            &[(0, Failed(false)), (0, Failed(false)), (0, Failed(true)), (10, Answered(true)), (10, Admits(true))],
        ),
    ];

    #[test]
    fn the_table_holds() {
        for (what, steps) in TABLE {
            let begun = Instant::now();
            let mut breaker = Breaker::new(Duration::from_millis(DEADLINE_MS));
            for (n, (ms, step)) in steps.iter().enumerate() {
                let now = begun + Duration::from_millis(*ms);
                let (found, expected) = match step {
                    Admits(expected) => (breaker.admits(now), expected),
                    Answered(expected) => (breaker.answered(), expected),
                    Failed(expected) => (breaker.failed(now), expected),
                };
                assert_eq!(found, *expected, "{what}, step {n}");
            }
        }
    }
}
