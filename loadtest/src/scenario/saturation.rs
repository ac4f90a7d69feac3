//! Row 3: the deliveries of one core, and their latency.

use std::time::Duration;

use super::audience::{Audience, Layout, Run};
use super::{Setting, Sizes};
use crate::failure::Failure;
use crate::publisher::Pace;
use crate::report::{BudgetRow, BudgetVerdict, thousands};
use crate::window::FOREIGN_CORES_MAX;

/// Required deliveries per second and core.
const DELIVERIES_MIN: f64 = 2_000_000.0;
/// Limit of the 99th percentile of the latency from publish to receipt, in milliseconds.
const P99_MS_MAX: f64 = 50.0;
/// Outstanding messages in the first, closed-loop step. At 2,000 messages per second this is 32 ms of messages.
const WINDOW: u64 = 64;
/// A step is stopped when this share of one second's messages is outstanding, because the rate cannot be sustained.
const LAG_MAX: f64 = 0.25;
/// The factors from one rate to the next: up while rates are kept, or down until one is kept.
const STEP_UP: f64 = 1.10;
const STEP_DOWN: f64 = 0.95;
const STEPS_MAX: usize = 16;

/// Publishes first as fast as the answers allow, then at fixed rates around that rate. The result is the fastest rate
/// that is kept with the latency within its limit.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let Sizes { batch, step, receivers, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Shared, receivers)?;
    audience.run(setting, Pace::Window(WINDOW), batch, step / 2)?;
    let closed = audience.run(setting, Pace::Window(WINDOW), batch, step)?;
    let mut rate = closed.deliveries_per_s() / receivers as f64;
    let (mut search, mut best, mut steps) = (Search::Begun, None, Vec::new());
    while steps.len() < STEPS_MAX {
        let interval = Duration::from_secs_f64(batch as f64 / rate).min(step);
        let pace = Pace::Even { interval, outstanding_max: ((rate * LAG_MAX) as u64).max(2 * batch) };
        let run = audience.run(setting, pace, batch, step)?;
        let kept = run.published.kept_pace && run.latencies.quantile_ms(0.99) <= P99_MS_MAX;
        let disturbed = !kept && !run.spent.is_quiet();
        let remark = match (kept, disturbed) {
            (true, _) => "",
            (false, false) => " (not kept)",
            (false, true) => " (not kept, but others ran: again)",
        };
        steps.push(format!("{rate:>6.0} msg/s: {}{remark}", figures(&run)));
        if kept {
            best = Some(run);
        }
        if disturbed {
            continue;
        }
        let Some(factor) = search.next(kept) else { break };
        rate *= factor;
    }
    Ok(rows(best.as_ref(), &closed, &steps, setting, audience.frame.len()))
}

/// Chooses the next rate. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Begun,
    /// All rates so far were kept.
    Up,
    /// No rate so far was kept.
    Down,
}

impl Search {
    /// The factor for the next rate, or `None` when the fastest rate has been found.
    fn next(&mut self, kept: bool) -> Option<f64> {
        let was = std::mem::replace(self, if kept { Self::Up } else { Self::Down });
        match (was, kept) {
            (Self::Begun | Self::Up, true) => Some(STEP_UP),
            (Self::Begun | Self::Down, false) => Some(STEP_DOWN),
            (Self::Up, false) | (Self::Down, true) => None,
        }
    }
}

fn figures(run: &Run) -> String {
    format!(
        "{} deliveries/s, p50 {:.1} ms, p99 {:.1} ms, server {:.0} % of its core, clients {:.0} % of a core",
        thousands(run.deliveries_per_s()),
        run.latencies.quantile_ms(0.5),
        run.latencies.quantile_ms(0.99),
        run.spent.server_share() * 100.0,
        run.spent.client_cores() * 100.0,
    )
}

fn rows(best: Option<&Run>, closed: &Run, steps: &[String], setting: &Setting, frame_bytes: usize) -> Vec<BudgetRow> {
    let run = best.unwrap_or(closed);
    let within = best.is_some();
    let per_core = run.deliveries_per_core_s();
    let met = BudgetVerdict::at_least(per_core, DELIVERIES_MIN);
    let mut notes = vec![
        format!("closed loop, {WINDOW} messages under way: {}", figures(closed)),
        format!("open loop, batches of {}, latency from when a message was due:", setting.sizes.batch),
    ];
    notes.extend(steps.iter().map(|step| format!("  {step}")));
    let client_cores = setting.cores.clients.len() as f64;
    if run.spent.server_share() < 0.95 && run.spent.client_cores() > 0.95 * client_cores {
        notes.push("receivers, publisher and Redis used all they had: the generator was the limit".into());
    }
    notes.push(format!("frames of {frame_bytes} bytes; all deliveries counted, of kept and other steps alike"));
    if run.spent.foreign_cores() > FOREIGN_CORES_MAX {
        notes.push(format!(
            "others on this machine used {:.2} cores meanwhile: too much, do not quote",
            run.spent.foreign_cores()
        ));
    }
    vec![
        BudgetRow {
            what: format!(
                "deliveries per core-second ({} receivers, p99 ≤ {P99_MS_MAX} ms)",
                thousands(setting.sizes.receivers as f64)
            ),
            measured: thousands(per_core),
            limit: format!("≥ {}", thousands(DELIVERIES_MIN)),
            verdict: if within { met } else { BudgetVerdict::Missed },
            notes,
        },
        BudgetRow {
            what: "the same by the clock".into(),
            measured: format!("{}/s, p99 {:.1} ms", thousands(run.deliveries_per_s()), run.latencies.quantile_ms(0.99)),
            limit: "-".into(),
            verdict: BudgetVerdict::Stated,
            notes: Vec::new(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(answers: &[bool]) -> Vec<Option<f64>> {
        let mut search = Search::Begun;
        answers.iter().map(|kept| search.next(*kept)).collect()
    }

    #[test]
    fn rates_go_up_until_one_is_not_kept() {
        assert_eq!(factors(&[true, true, false]), [Some(STEP_UP), Some(STEP_UP), None]);
    }

    #[test]
    fn or_down_until_one_is() {
        assert_eq!(factors(&[false, false, true]), [Some(STEP_DOWN), Some(STEP_DOWN), None]);
    }
}
