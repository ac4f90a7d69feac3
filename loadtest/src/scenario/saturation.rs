//! Row 3: how much one core can deliver, and at which latency.

use super::audience::{Audience, Layout, Run, quiet_note};
use super::{Setting, Sizes};
use crate::failure::Failure;
use crate::publisher::Pace;
use crate::report::{Row, Verdict, thousands};

/// Deliveries per second and core.
const DELIVERIES_MIN: f64 = 2_000_000.0;
/// Publish to receipt, 99 of 100.
const P99_MS_MAX: f64 = 50.0;
/// Messages under way in the first, closed-loop step. At 2,000 messages/s this is 32 ms of them.
const WINDOW: u64 = 64;
/// A step is given up when so much of a second's messages are under way: it will not be sustained.
const LAG_MAX: f64 = 0.25;
/// From one rate to the next, while rates are sustained; back half as far when one is not.
const STEP_UP: f64 = 1.10;
const STEP_DOWN: f64 = 0.95;
const STEPS_MAX: usize = 12;

/// First as fast as the answers allow, then at fixed rates around that: the fastest one that is kept with every
/// message within the latency counts.
pub(super) fn run(setting: &Setting) -> Result<Vec<Row>, Failure> {
    let Sizes { batch, step, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Shared, setting.sizes.receivers)?;
    audience.run(setting, Pace::Window(WINDOW), batch, step / 2)?;
    let closed = audience.run(setting, Pace::Window(WINDOW), batch, step)?;
    let mut rate = closed.deliveries_per_s() / audience.len() as f64;
    let (mut best, mut steps): (Option<Run>, Vec<String>) = (None, Vec::new());
    while steps.len() < STEPS_MAX {
        let interval = step.min(std::time::Duration::from_secs_f64(batch as f64 / rate));
        let pace = Pace::Even { interval, outstanding_max: ((rate * LAG_MAX) as u64).max(2 * batch) };
        let run = audience.run(setting, pace, batch, step)?;
        let kept = run.published.kept_pace && run.latencies.quantile_ms(0.99) <= P99_MS_MAX;
        steps.push(format!("{:>6.0} msg/s: {}{}", rate, figures(&run), if kept { "" } else { " (not kept)" }));
        match (kept, best.is_some()) {
            (true, _) if steps.len() > 1 && best.is_none() => {
                // Coming down, this is the first that is kept.
                best = Some(run);
                break;
            }
            (true, _) => {
                best = Some(run);
                rate *= STEP_UP;
            }
            (false, true) => break,
            (false, false) => rate *= STEP_DOWN,
        }
    }
    Ok(rows(best.as_ref(), &closed, &steps, setting, audience.len(), audience.frame.len()))
}

fn figures(run: &Run) -> String {
    format!(
        "{} deliveries/s, p50 {:.1} ms, p99 {:.1} ms, server {:.0} % of its core, clients {:.0} % of a core",
        thousands(run.deliveries_per_s()),
        run.latencies.quantile_ms(0.5),
        run.latencies.quantile_ms(0.99),
        run.server_share() * 100.0,
        run.client_cpu.as_secs_f64() / run.wall.as_secs_f64() * 100.0,
    )
}

fn rows(
    best: Option<&Run>,
    closed: &Run,
    steps: &[String],
    setting: &Setting,
    receivers: usize,
    frame_bytes: usize,
) -> Vec<Row> {
    let run = best.unwrap_or(closed);
    let within = best.is_some();
    let per_core = run.deliveries_per_core_s();
    let met = Verdict::at_least(per_core, DELIVERIES_MIN);
    let mut notes = vec![
        format!("closed loop, {WINDOW} messages under way: {}", figures(closed)),
        format!("open loop, batches of {}, latency from when a message was due:", setting.sizes.batch),
    ];
    notes.extend(steps.iter().map(|step| format!("  {step}")));
    let client_cores = setting.cores.clients.len() as f64;
    if run.server_share() < 0.95 && run.client_cpu.as_secs_f64() / run.wall.as_secs_f64() > 0.95 * client_cores {
        notes.push("receivers, publisher and Redis used all they had: the generator was the limit".into());
    }
    notes.push(format!("frames of {frame_bytes} bytes; all deliveries counted, of kept and other steps alike"));
    notes.push(quiet_note(std::iter::once(run)));
    vec![
        Row {
            what: format!(
                "deliveries per core-second ({} receivers, p99 ≤ {P99_MS_MAX} ms)",
                thousands(receivers as f64)
            ),
            measured: thousands(per_core),
            limit: format!("≥ {}", thousands(DELIVERIES_MIN)),
            verdict: if within { met } else { Verdict::Missed },
            notes,
        },
        Row {
            what: "the same by the clock".into(),
            measured: format!("{}/s, p99 {:.1} ms", thousands(run.deliveries_per_s()), run.latencies.quantile_ms(0.99)),
            limit: "-".into(),
            verdict: Verdict::Stated,
            notes: Vec::new(),
        },
    ]
}
