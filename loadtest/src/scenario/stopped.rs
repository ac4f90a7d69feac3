//! Row 8: the additional CPU for active readers when other readers have stopped.

use std::thread;
use std::time::Duration;

use keyspace::{Keyspace, PublishCall, PublishItem};
use redis::Cmd;

use super::audience::{Audience, Layout, SHARED, channel};
use super::pairs::{Pair, Pairs};
use super::{Setting, Sizes};
use crate::clients::{Clients, ConnectPlan, Transport, storm};
use crate::failure::Failure;
use crate::harness::{BenchHarness, Metrics, sign_token};
use crate::publisher::Pace;
use crate::report::{BudgetRow, BudgetVerdict, thousands};
use crate::usage::resident;

/// The same interval as in row 1.
const INTERVAL: Duration = Duration::from_micros(19_960);
/// Limit of the CPU per delivery beside stopped readers, relative to a gateway without them.
const RATIO_MAX: f64 = 1.05;
/// The stopped readers also subscribe to this topic. Its messages fill their sockets and outboxes.
const FLOOD: &str = "flood";
const FLOOD_BYTES: usize = 32 * 1024;
/// Slow enough to show whether the active readers suffer.
const FLOOD_INTERVAL: Duration = Duration::from_millis(50);
/// The most messages of the flood: 64 MiB. A socket and its outbox hold a few MiB.
const FLOOD_MESSAGES_MAX: usize = 2_048;
/// The readers must stay connected until the measurement ends, although they do not read.
const PATIENCE: &str = "limits.write_timeout_ms = 600000\nlimits.ping_interval_ms = 600000";
/// The default of `limits.backlog_bytes_max`. The process itself grows by much less in this time.
const BACKLOG_MIB_MAX: f64 = 256.0;

/// Runs two gateways with the same number of receivers in one scope. On one of them, additional readers in this scope
/// have stopped.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let Sizes { receivers, pairs, window, stopped, .. } = setting.sizes;
    let mut alone = Audience::gather(setting, Layout::Shared, receivers)?;
    let mut beside = Audience::gather_at(
        BenchHarness::start(&setting.cores, &setting.gateway, PATIENCE)?,
        Transport::WebSocket,
        Layout::Shared,
        receivers,
    )?;
    let (metrics, pid) = (beside.harness.metrics, beside.harness.gateway.pid());
    let pace = Pace::Even { interval: INTERVAL, outstanding_max: u64::MAX };
    alone.run(setting, pace.clone(), 1, window)?;
    let calm = beside.run(setting, pace.clone(), 1, window)?;

    // Nothing reads from these sockets.
    let mut readers = Clients::new(Transport::WebSocket)?;
    let plan = |number: usize| {
        let channel = format!("{SHARED}:*");
        ConnectPlan { token: sign_token(&format!("s{number}"), &[&channel]), channels: vec![channel] }
    };
    let visits: Vec<_> = (0..stopped).map(plan).collect();
    storm(&mut readers, beside.harness.addr, visits.into_iter())?;
    let flood = Flood { url: beside.harness.redis_url.clone(), metrics, pid, stopped };
    let flood = thread::spawn(move || flood.run());
    let mut stormy = Vec::new();
    while !flood.is_finished() {
        stormy.push(beside.run(setting, pace.clone(), 1, window.min(Duration::from_secs(1)))?);
    }
    let flooded = flood.join().expect("the flood does not panic")?;

    let taken = Pairs::take(pairs, || {
        let bare = alone.run(setting, pace.clone(), 1, window)?;
        Ok(Pair {
            bare_us: bare.cpu_us_per_delivery(),
            bare: bare.spent,
            run: beside.run(setting, pace.clone(), 1, window)?,
        })
    })?;
    let (behind, closed) = (metrics.value("tidegate_slow_clients")?, metrics.value("tidegate_slow_closes_total")?);
    if closed > 0.0 || behind < flooded.behind {
        let what = format!("{closed} of the stopped readers were closed, {behind} are behind, {} were", flooded.behind);
        return Err(Failure::Unmeasurable(what));
    }
    let count = thousands(stopped as f64);
    let what = format!("CPU per delivery to {} readers, beside {count} that stopped", thousands(receivers as f64));
    let mut row = taken.row(what, "without those", RATIO_MAX, beside.frame.len());
    let worst = stormy.iter().map(|run| run.latencies.quantile_ms(0.99)).fold(0.0, f64::max);
    let before = calm.latencies.quantile_ms(0.99);
    row.notes
        .push(format!("p99 before {before:.1} ms, in the worst second while the others fell behind {worst:.1} ms"));
    Ok(vec![row, flooded.row(stopped)])
}

/// Fills the sockets and outboxes of the stopped readers.
struct Flood {
    url: String,
    metrics: Metrics,
    /// The process id of the gateway.
    pid: u32,
    stopped: usize,
}

/// The result of the flood.
struct Flooded {
    messages: usize,
    /// Number of clients that will receive the rest from history.
    behind: f64,
    /// The largest growth of the gateway's resident memory.
    grown_bytes: u64,
}

impl Flood {
    /// Publishes until every stopped reader is behind.
    fn run(&self) -> Result<Flooded, Failure> {
        let client = redis::Client::open(self.url.as_str()).map_err(Failure::redis("the flood's address"))?;
        let mut connection = client.get_connection().map_err(Failure::redis("the flood's connection"))?;
        let call = PublishCall::new(&Keyspace::default(), &channel(SHARED).scope, false);
        let message = format!(r#"{{"type":"flood","payload":"{}"}}"#, "x".repeat(FLOOD_BYTES));
        let before = resident(self.pid)?.rss;
        let mut flooded = Flooded { messages: 0, behind: 0.0, grown_bytes: 0 };
        while flooded.behind < self.stopped as f64 {
            if flooded.messages == FLOOD_MESSAGES_MAX {
                let what = format!("{} of {} readers are behind after the flood", flooded.behind, self.stopped);
                return Err(Failure::Unmeasurable(what));
            }
            let mut command = Cmd::new();
            let item = PublishItem { topic: FLOOD, message: message.as_bytes(), id: None };
            call.write([item], |word| {
                command.arg(word);
            });
            command.exec(&mut connection).map_err(Failure::redis("flooding"))?;
            thread::sleep(FLOOD_INTERVAL);
            flooded.messages += 1;
            flooded.behind = self.metrics.value("tidegate_slow_clients")?;
            flooded.grown_bytes = flooded.grown_bytes.max(resident(self.pid)?.rss.saturating_sub(before));
        }
        Ok(flooded)
    }
}

impl Flooded {
    fn row(&self, stopped: usize) -> BudgetRow {
        let mib = self.grown_bytes as f64 / f64::from(1 << 20);
        let offered = self.messages as f64 * FLOOD_BYTES as f64 / f64::from(1 << 20);
        BudgetRow {
            what: format!("most memory while {} readers stopped", thousands(stopped as f64)),
            measured: format!("{mib:.0} MiB"),
            limit: format!("≤ {BACKLOG_MIB_MAX:.0} MiB"),
            verdict: BudgetVerdict::at_most(mib, BACKLOG_MIB_MAX),
            notes: vec![format!(
                "each was sent {} messages of {FLOOD_BYTES} bytes, {offered:.0} MiB; all were left to read the rest from history",
                self.messages
            )],
        }
    }
}
