//! Row 1: what one delivery costs the server when every message is written by itself.

use std::time::{Duration, Instant};

use super::audience::{Audience, Layout, Run, quiet_note};
use super::{Setting, Sizes};
use crate::baseline::Baseline;
use crate::failure::Failure;
use crate::publisher::Pace;
use crate::report::{Row, Spread, Verdict, thousands};
use crate::swarm::Swarm;
use crate::usage::cpu_time;

/// Messages per second on both sides, evenly spaced.
const RATE: u32 = 50;
const INTERVAL: Duration = Duration::from_micros(1_000_000 / RATE as u64);
/// The gateway's CPU per delivery, over that of a bare `write(2)` loop.
const RATIO_MAX: f64 = 1.15;
/// How long the write loop's receivers wait for bytes that do not come.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Both servers stay up; the sides take turns, so that a change of the machine's mood hits both.
pub(super) fn run(setting: &Setting) -> Result<Vec<Row>, Failure> {
    let Sizes { receivers, pairs, window, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Shared, receivers)?;
    let mut baseline = Baseline::write_loop(setting.cores.server, receivers)?;
    let mut onlookers = Swarm::new()?;
    onlookers.connect_plain(baseline.addr, receivers)?;
    baseline.await_ready()?;

    let pace = Pace::Even { interval: INTERVAL, outstanding_max: u64::MAX };
    // Grows what grows once, and shows the frame that the write loop is to write.
    audience.run(setting, pace.clone(), 1, window.min(Duration::from_secs(1)))?;
    let (mut bare_us, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let frame = audience.frame.clone();
        bare_us.push(write_loop_us(&mut baseline, &mut onlookers, &frame, window)?);
        runs.push(audience.run(setting, pace.clone(), 1, window)?);
    }
    Ok(vec![row(&bare_us, &runs, receivers, audience.frame.len())])
}

/// CPU of the write loop per write, in microseconds, over one window.
fn write_loop_us(
    baseline: &mut Baseline,
    onlookers: &mut Swarm,
    frame: &[u8],
    window: Duration,
) -> Result<f64, Failure> {
    let ticks = (window.as_secs_f64() * f64::from(RATE)).round() as u64;
    let expected = ticks * onlookers.len() as u64;
    let before = cpu_time(baseline.process.pid())?;
    baseline.show(frame)?;
    baseline.begin(ticks, INTERVAL)?;
    let (mut seen, mut last_progress) = (0, Instant::now());
    while seen < expected && last_progress.elapsed() < SILENCE_MAX {
        let so_far = seen;
        onlookers.poll(Duration::from_millis(5), |receiver, got| {
            seen += 1;
            let what = || Failure::Receiver { receiver, what: "got other bytes than the write loop was given".into() };
            if got.bytes == frame { Ok(()) } else { Err(what()) }
        })?;
        if seen > so_far {
            last_progress = Instant::now();
        }
    }
    baseline.process.check_alive()?;
    if seen != expected {
        return Err(Failure::Deliveries(format!("the write loop's receivers got {seen} frames of {expected}")));
    }
    let writes = baseline.await_done()?;
    let cpu = cpu_time(baseline.process.pid())? - before;
    Ok(cpu.as_secs_f64() * 1e6 / writes as f64)
}

fn row(bare_us: &[f64], runs: &[Run], receivers: usize, frame_bytes: usize) -> Row {
    let gateway_us: Vec<f64> = runs.iter().map(Run::cpu_us_per_delivery).collect();
    let ratios: Vec<f64> = gateway_us.iter().zip(bare_us).map(|(gateway, bare)| gateway / bare).collect();
    let (ratio, bare, gateway) = (Spread::of(&ratios), Spread::of(bare_us), Spread::of(&gateway_us));
    let deliveries: u64 = runs.iter().map(|run| run.deliveries).sum();
    let p99 = Spread::of(&runs.iter().map(|run| run.latencies.quantile_ms(0.99)).collect::<Vec<_>>());
    let pairs = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(" ");
    Row {
        what: format!(
            "CPU per delivery, one message per write ({} receivers, {RATE} msg/s)",
            thousands(receivers as f64)
        ),
        measured: format!("{:.3} × write(2) loop", ratio.median),
        limit: format!("≤ {RATIO_MAX} ×"),
        verdict: Verdict::at_most(ratio.median, RATIO_MAX),
        notes: vec![
            format!("ratios of the pairs: {pairs} (min {:.3}, max {:.3})", ratio.min, ratio.max),
            format!("write loop {:.3} µs per write ({:.3} to {:.3})", bare.median, bare.min, bare.max),
            format!("gateway {:.3} µs per delivery ({:.3} to {:.3})", gateway.median, gateway.min, gateway.max),
            format!("{} deliveries, each counted; frames of {frame_bytes} bytes", thousands(deliveries as f64)),
            format!("publish to receipt p99 {:.1} ms ({:.1} to {:.1})", p99.median, p99.min, p99.max),
            quiet_note(runs.iter()),
        ],
    }
}
