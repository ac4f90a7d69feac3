//! Row 2: what one delivery costs the server when every message has one receiver, in a scope of its own, with history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::audience::{Audience, Layout, PERSONAL_DIGITS, Run, channel, quiet_note};
use super::{Setting, Sizes};
use crate::baseline::Baseline;
use crate::failure::Failure;
use crate::publisher::{Pace, Progress, Publisher};
use crate::report::{Row, Spread, Verdict, thousands};
use crate::send_times::SendTimes;
use crate::swarm::Swarm;
use crate::usage::cpu_time;

/// Messages per second, over all scopes.
const RATE: u64 = 5_000;
/// How they arrive: each by itself, or all of 5 ms together.
const ARRIVALS: [(&str, u64); 2] = [("evenly spaced", 1), ("in 5 ms ticks", RATE / 200)];
/// The gateway's CPU per delivery, over that of a bare relay.
const RATIO_MAX: f64 = 1.5;
/// Scopes that the relay passes on; the gateway has others, so that each side hears only its own messages.
const RELAY_STEM: &str = "user:r";
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A relay on the same Redis, with as many scopes and sockets.
struct Rival {
    baseline: Baseline,
    onlookers: Swarm,
    /// Absent while a run has it in its thread.
    publisher: Option<Publisher>,
}

/// Both servers stay up; the sides take turns.
pub(super) fn run(setting: &Setting) -> Result<Vec<Row>, Failure> {
    let Sizes { scopes, pairs, window, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Personal, scopes)?;
    let mut rival = Rival::start(setting, &audience, scopes)?;
    let mut rows = Vec::new();
    for (name, batch) in ARRIVALS {
        let interval = Duration::from_micros(1_000_000 * batch / RATE);
        let pace = Pace::Even { interval, outstanding_max: u64::MAX };
        // Long enough that every scope has had a message: each begins its history once.
        audience.run(setting, pace.clone(), batch, Duration::from_secs(scopes as u64 / RATE + 1))?;
        rival.run_us(setting, &audience.frame, pace.clone(), batch, Duration::from_secs(scopes as u64 / RATE + 1))?;
        let (mut bare_us, mut runs) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            bare_us.push(rival.run_us(setting, &audience.frame, pace.clone(), batch, window)?);
            runs.push(audience.run(setting, pace.clone(), batch, window)?);
        }
        rows.push(row(name, &bare_us, &runs, scopes, audience.frame.len()));
    }
    Ok(rows)
}

impl Rival {
    fn start(setting: &Setting, audience: &Audience, scopes: usize) -> Result<Self, Failure> {
        let mut baseline = Baseline::relay(setting.cores.server, scopes, audience.rig.redis_addr, RELAY_STEM)?;
        let mut onlookers = Swarm::new()?;
        onlookers.connect_plain(baseline.addr, scopes)?;
        baseline.await_ready()?;
        let channels: Vec<_> =
            (0..scopes).map(|number| channel(&format!("{RELAY_STEM}{number:0PERSONAL_DIGITS$}"))).collect();
        let publisher = Publisher::connect(&audience.rig.redis_url, &channels, Arc::new(SendTimes::new()))?;
        Ok(Self { baseline, onlookers, publisher: Some(publisher) })
    }

    /// CPU of the relay per message, in microseconds, over one run.
    fn run_us(
        &mut self,
        setting: &Setting,
        frame: &[u8],
        pace: Pace,
        batch: u64,
        duration: Duration,
    ) -> Result<f64, Failure> {
        let publisher = self.publisher.take().expect("every run gives it back");
        let first = publisher.next();
        self.baseline.show(frame)?;
        let progress = Arc::new(Progress::default());
        let before = cpu_time(self.baseline.process.pid())?;
        let task = publisher.run(setting.cores.clients.clone(), pace, batch, duration, progress.clone());
        let mut seen = 0;
        while !progress.finished.load(Ordering::Acquire) {
            self.receive(frame, &mut seen)?;
        }
        let (publisher, published) = task.join().expect("the publisher does not panic")?;
        self.publisher = Some(publisher);
        let expected = published.end - first;
        let mut last_progress = Instant::now();
        while seen < expected && last_progress.elapsed() < SILENCE_MAX {
            let so_far = seen;
            self.receive(frame, &mut seen)?;
            if seen > so_far {
                last_progress = Instant::now();
            }
        }
        self.baseline.process.check_alive()?;
        if seen != expected {
            return Err(Failure::Deliveries(format!("the relay's receivers got {seen} frames of {expected}")));
        }
        let cpu = cpu_time(self.baseline.process.pid())? - before;
        Ok(cpu.as_secs_f64() * 1e6 / expected as f64)
    }

    fn receive(&mut self, frame: &[u8], seen: &mut u64) -> Result<(), Failure> {
        self.onlookers.poll(Duration::from_millis(5), |receiver, got| {
            *seen += 1;
            let what = || Failure::Receiver { receiver, what: "got other bytes than the relay was given".into() };
            if got.bytes == frame { Ok(()) } else { Err(what()) }
        })
    }
}

fn row(arrivals: &str, bare_us: &[f64], runs: &[Run], scopes: usize, frame_bytes: usize) -> Row {
    let gateway_us: Vec<f64> = runs.iter().map(Run::cpu_us_per_delivery).collect();
    let ratios: Vec<f64> = gateway_us.iter().zip(bare_us).map(|(gateway, bare)| gateway / bare).collect();
    let (ratio, bare, gateway) = (Spread::of(&ratios), Spread::of(bare_us), Spread::of(&gateway_us));
    let pairs = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(" ");
    let p99 = Spread::of(&runs.iter().map(|run| run.latencies.quantile_ms(0.99)).collect::<Vec<_>>());
    Row {
        what: format!(
            "CPU per delivery, one receiver per scope ({} scopes, {} msg/s, {arrivals})",
            thousands(scopes as f64),
            thousands(RATE as f64)
        ),
        measured: format!("{:.3} × bare relay", ratio.median),
        limit: format!("≤ {RATIO_MAX} ×"),
        verdict: Verdict::at_most(ratio.median, RATIO_MAX),
        notes: vec![
            format!("ratios of the pairs: {pairs} (min {:.3}, max {:.3})", ratio.min, ratio.max),
            format!("relay {:.2} µs per message ({:.2} to {:.2})", bare.median, bare.min, bare.max),
            format!("gateway {:.2} µs per delivery ({:.2} to {:.2})", gateway.median, gateway.min, gateway.max),
            format!("frames of {frame_bytes} bytes; publish to receipt p99 {:.1} ms", p99.median),
            quiet_note(runs.iter()),
        ],
    }
}
