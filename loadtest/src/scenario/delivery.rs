//! Row 1: the CPU of one delivery when every message is written separately.

use std::time::{Duration, Instant};

use super::audience::{Audience, Layout};
use super::pairs::{Pair, Pairs};
use super::{Setting, Sizes};
use crate::baseline::Baseline;
use crate::clients::{Clients, Transport};
use crate::failure::Failure;
use crate::publisher::Pace;
use crate::report::{BudgetRow, thousands};
use crate::window::{Spent, Window};

/// Messages per second on both sides, evenly spaced.
const RATE: u64 = 50;
/// Nearly 20 ms, but not a multiple of the kernel's timer tick, at which `/proc/stat` samples the running thread. A run
/// in step with the tick would look busier or idler than it is, and so would other processes.
const INTERVAL: Duration = Duration::from_micros(19_960);
/// Limit of the gateway's CPU per delivery, relative to a bare `write(2)` loop.
const RATIO_MAX: f64 = 1.15;
/// How long the receivers of the write loop wait for bytes that do not arrive.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Both servers stay running. The two sides alternate, so that a change of the machine's speed affects both.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let Sizes { receivers, pairs, window, .. } = setting.sizes;
    let mut audience = Audience::gather(setting, Layout::Shared, receivers)?;
    let mut baseline = Baseline::write_loop(setting.cores.server, receivers)?;
    let mut onlookers = Clients::new(Transport::WebSocket)?;
    onlookers.connect_plain(baseline.addr, receivers)?;
    baseline.await_ready()?;

    let pace = Pace::Even { interval: INTERVAL, outstanding_max: u64::MAX };
    // The first run fills buffers and tables that grow only once, and shows the frame that the write loop has to write.
    audience.run(setting, pace.clone(), 1, window.min(Duration::from_secs(1)))?;
    let taken = Pairs::take(pairs, || {
        let frame = audience.frame.clone();
        let (bare_us, bare) = write_loop_us(&mut baseline, &mut onlookers, &frame, window)?;
        Ok(Pair { bare_us, bare, run: audience.run(setting, pace.clone(), 1, window)? })
    })?;
    let count = thousands(receivers as f64);
    let what = format!("CPU per delivery, one message per write ({count} receivers, {RATE} msg/s)");
    Ok(vec![taken.row(what, "write(2) loop", RATIO_MAX, audience.frame.len())])
}

/// CPU time of the write loop per write in microseconds, over one window.
fn write_loop_us(
    baseline: &mut Baseline,
    onlookers: &mut Clients,
    frame: &[u8],
    window: Duration,
) -> Result<(f64, Spent), Failure> {
    let ticks = (window.as_secs_f64() / INTERVAL.as_secs_f64()).round() as u64;
    let expected = ticks * onlookers.len() as u64;
    let measured = Window::open(baseline.process.pid(), None)?;
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
    let spent = measured.close(Duration::ZERO)?;
    Ok((spent.server_us_per(writes), spent))
}
