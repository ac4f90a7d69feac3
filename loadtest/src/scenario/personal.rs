//! Row 2: the CPU of one delivery when every message has one receiver, in its own scope, with history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::audience::{Audience, Layout, PERSONAL_DIGITS, channel};
use super::pairs::{Pair, Pairs};
use super::{Setting, Sizes};
use crate::baseline::Baseline;
use crate::clients::{Clients, Transport};
use crate::failure::Failure;
use crate::publisher::{Pace, Progress, Publisher};
use crate::report::{BudgetRow, thousands};
use crate::send_times::SendTimes;
use crate::window::{Spent, Window};

/// The time between two messages, over all scopes: 5,025 per second. As in row 1, it does not divide the kernel's timer
/// tick.
const INTERVAL: Duration = Duration::from_micros(199);
const RATE: u64 = 1_000_000 / INTERVAL.as_micros() as u64;
/// The arrival of messages: each separately, or all messages of 5 ms together.
const ARRIVALS: [(&str, u32); 2] = [("evenly spaced", 1), ("in 5 ms ticks", 25)];
/// Limit of the gateway's CPU per delivery, relative to a bare relay.
const RATIO_MAX: f64 = 1.5;
/// The scopes of the relay. The gateway has other scopes, so that each side receives only its own messages.
const RELAY_STEM: &str = "user:r";
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A relay on the same Redis, with the same number of scopes and sockets.
struct RelayBaseline {
    baseline: Baseline,
    /// The process id of the Redis that both sides share, for `/proc`.
    redis: u32,
    onlookers: Clients,
    /// `None` while a run uses the publisher in its thread.
    publisher: Option<Publisher>,
}

/// Both servers stay running. The two sides alternate.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let Sizes { scopes, pairs, window, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Personal, scopes)?;
    let mut relay = RelayBaseline::start(setting, &audience, scopes)?;
    let mut rows = Vec::new();
    for (name, batch) in ARRIVALS {
        let pace = Pace::Even { interval: INTERVAL * batch, outstanding_max: u64::MAX };
        let batch = u64::from(batch);
        // The first run is long enough for one message in every scope, because each scope creates its history once.
        audience.run(setting, pace.clone(), batch, Duration::from_secs(scopes as u64 / RATE + 1))?;
        relay.run_us(setting, &audience.frame, pace.clone(), batch, Duration::from_secs(scopes as u64 / RATE + 1))?;
        let taken = Pairs::take(pairs, || {
            let (bare_us, bare) = relay.run_us(setting, &audience.frame, pace.clone(), batch, window)?;
            Ok(Pair { bare_us, bare, run: audience.run(setting, pace.clone(), batch, window)? })
        })?;
        let (count, rate) = (thousands(scopes as f64), thousands(RATE as f64));
        let what = format!("CPU per delivery, one receiver per scope ({count} scopes, {rate} msg/s, {name})");
        rows.push(taken.row(what, "bare relay", RATIO_MAX, audience.frame.len()));
    }
    Ok(rows)
}

impl RelayBaseline {
    fn start(setting: &Setting, audience: &Audience, scopes: usize) -> Result<Self, Failure> {
        let mut baseline = Baseline::relay(setting.cores.server, scopes, audience.harness.redis_addr, RELAY_STEM)?;
        let mut onlookers = Clients::new(Transport::WebSocket)?;
        onlookers.connect_plain(baseline.addr, scopes)?;
        baseline.await_ready()?;
        let channels: Vec<_> =
            (0..scopes).map(|number| channel(&format!("{RELAY_STEM}{number:0PERSONAL_DIGITS$}"))).collect();
        let publisher = Publisher::connect(&audience.harness.redis_url, &channels, Arc::new(SendTimes::new()))?;
        Ok(Self { baseline, redis: audience.harness.redis.pid(), onlookers, publisher: Some(publisher) })
    }

    /// CPU time of the relay per message in microseconds, over one run.
    fn run_us(
        &mut self,
        setting: &Setting,
        frame: &[u8],
        pace: Pace,
        batch: u64,
        duration: Duration,
    ) -> Result<(f64, Spent), Failure> {
        let publisher = self.publisher.take().expect("every run gives it back");
        let first = publisher.next();
        self.baseline.show(frame)?;
        let progress = Arc::new(Progress::default());
        let measured = Window::open(self.baseline.process.pid(), Some(self.redis))?;
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
        let spent = measured.close(published.cpu)?;
        Ok((spent.server_us_per(expected), spent))
    }

    fn receive(&mut self, frame: &[u8], seen: &mut u64) -> Result<(), Failure> {
        self.onlookers.poll(Duration::from_millis(5), |receiver, got| {
            *seen += 1;
            let what = || Failure::Receiver { receiver, what: "got other bytes than the relay was given".into() };
            if got.bytes == frame { Ok(()) } else { Err(what()) }
        })
    }
}
