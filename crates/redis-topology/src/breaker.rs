//! PURE. Whether to call a server that has not been answering: one caller is to find that out, not each of them by
//! waiting.
//!
//! ```text
//!           FAILURES_MAX in a row             PAUSE is over: one trial goes
//!   Closed ───────────────────────▶ Open ───────────────────────────────────▶ Trying
//!     ▲                               ▲◀─────────────── it failed ──────────────┤
//!     └─────────────────────── an answer, to whomever ──────────────────────────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// So many calls in a row without an answer, and further ones are refused.
pub(crate) const FAILURES_MAX: u32 = 3;
/// From then on, and after each trial that failed, so long nobody calls.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// Told what became of calls, and asked before each.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// How long a call may take. A trial of which nothing was heard by then is over: its caller has left.
    deadline: Duration,
    state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    /// All calls go.
    Closed { failures: u32 },
    /// None goes.
    Open { until: Instant },
    /// One has gone, and nobody else until it is over.
    Trying { until: Instant },
}

impl Breaker {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { deadline, state: BreakerState::Closed { failures: 0 } }
    }

    /// Whether a call may go now. One that goes while the breaker is open is the trial.
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

    /// A call was answered, whatever the answer was. Whether this closes the breaker.
    pub(crate) fn answered(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = BreakerState::Closed { failures: 0 };
        was_open
    }

    /// A call was not answered. Whether this opens the breaker.
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
            // The rest of those that had gone before: the pause is on.
            BreakerState::Open { .. } => false,
            BreakerState::Trying { .. } => {
                self.state = BreakerState::Open { until };
                false
            }
        }
    }

    /// Whether calls are refused, a trial now and then left out.
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
        /// Whether it opens.
        Failed(bool),
    }
    use Step::{Admits, Answered, Failed};

    /// Each step at its millisecond, from a closed breaker on.
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
