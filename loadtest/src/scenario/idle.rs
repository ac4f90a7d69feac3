//! Row 4: the memory of an idle connection, each in its own user scope; the CPU to connect it (row 5); and the CPU of
//! all idle connections (row 9). Row 11 is row 4 with event streams.

use std::time::{Duration, Instant};

use super::{Setting, Sizes};
use crate::clients::{Clients, ConnectPlan, Storm, Transport, storm};
use crate::failure::Failure;
use crate::harness::{BenchHarness, sign_token};
use crate::report::{BudgetRow, BudgetVerdict, thousands};
use crate::usage::{Resident, cpu_time, resident, socket_kernel_bytes};
use crate::window::{Spent, Window};

/// Limit of the gateway's resident memory per connection in bytes.
const RSS_BYTES_MAX: f64 = 2048.0;
/// Limit of the gateway's resident memory per event stream in bytes.
const EVENT_STREAM_RSS_BYTES_MAX: f64 = 2560.0;
/// Limit of the gateway's CPU per connection in microseconds, from accept to `subscribed`.
const CPU_US_MAX: f64 = 100.0;
/// Limit of the gateway's CPU with all idle connections, in cores.
const IDLE_CORES_MAX: f64 = 0.015;
/// The watch lasts this many times the settle time: by default a little more than the time between two pings.
const WATCHED_TIMES: u32 = 3;
/// Descriptors of this process and of the gateway that are not connections.
const DESCRIPTORS_SPARE: u64 = 256;

/// Measures rows 4, 5 and 9 with WebSockets.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let connections = setting.sizes.connections;
    let mut idle = Idle::settle(setting, Transport::WebSocket)?;
    let watch = Watch::begin(&idle.harness)?;
    poll_for(&mut idle.clients, WATCHED_TIMES * setting.sizes.settle)?;
    let watched = watch.end(&idle.harness)?;
    let count = thousands(connections as f64);
    let what = format!("RSS per idle connection ({count}, each in its own user scope)");
    let kernel = kernel_row(idle.kernel.map(|bytes| bytes as f64 / connections as f64));
    let storm = storm_row(&idle.storm, idle.storm_cpu, connections);
    Ok(vec![idle.memory_row(what, RSS_BYTES_MAX), kernel, storm, watched.row(&count)])
}

/// Measures row 11, which is the memory of row 4 with event streams.
pub(super) fn run_event_streams(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let count = thousands(setting.sizes.connections as f64);
    let what = format!("RSS per idle event stream ({count}, each in its own user scope)");
    Ok(vec![Idle::settle(setting, Transport::EventStream)?.memory_row(what, EVENT_STREAM_RSS_BYTES_MAX)])
}

/// A gateway with idle connections, and the measured values up to that point.
struct Idle {
    harness: BenchHarness,
    clients: Clients,
    settle: Duration,
    before: Resident,
    at_once: Resident,
    settled: Resident,
    /// Growth of the kernel's memory in bytes.
    kernel: Option<u64>,
    storm: Storm,
    storm_cpu: Duration,
}

impl Idle {
    /// Connects all clients, waits, and reads the values.
    fn settle(setting: &Setting, transport: Transport) -> Result<Self, Failure> {
        let Sizes { connections, settle, .. } = setting.sizes;
        check_descriptors(connections)?;
        let harness = BenchHarness::start(&setting.cores, &setting.gateway, "")?;
        let pid = harness.gateway.pid();
        let plan = |number: usize| {
            let user = format!("u{number:05}");
            ConnectPlan { token: sign_token(&user, &[]), channels: vec![format!("user:{user}")] }
        };
        let visits: Vec<_> = (0..connections).map(plan).collect();
        let mut clients = Clients::new(transport)?;
        poll_for(&mut clients, settle / 4)?;

        let (before, kernel, cpu) = (resident(pid)?, socket_kernel_bytes(), cpu_time(pid)?);
        let storm = storm(&mut clients, harness.addr, visits.into_iter())?;
        let storm_cpu = cpu_time(pid)? - cpu;
        let at_once = resident(pid)?;
        poll_for(&mut clients, settle)?;
        let settled = resident(pid)?;
        let kernel = kernel.zip(socket_kernel_bytes()).map(|(before, after)| after.saturating_sub(before));
        Ok(Self { harness, clients, settle, before, at_once, settled, kernel, storm, storm_cpu })
    }

    /// The memory growth per connection, beside `bytes_max`.
    fn memory_row(&self, what: String, bytes_max: f64) -> BudgetRow {
        let Self { before, at_once, settled, settle, .. } = self;
        let grown = |now: &Resident| now.rss.saturating_sub(before.rss) as f64 / self.clients.len() as f64;
        BudgetRow {
            what,
            measured: format!("{} bytes", thousands(grown(settled))),
            limit: format!("≤ {}", thousands(bytes_max)),
            verdict: BudgetVerdict::at_most(grown(settled), bytes_max),
            notes: vec![
                format!("RSS {:.1} MiB before, {:.1} MiB after", mib(before.rss), mib(settled.rss)),
                format!(
                    "of that the program itself, read in as it is first used: {:.1} MiB before, {:.1} MiB after",
                    mib(before.rss - before.anonymous),
                    mib(settled.rss - settled.anonymous)
                ),
                format!("of that in huge pages {:.1} MiB before, {:.1} MiB after", mib(before.huge), mib(settled.huge)),
                format!("{} bytes at once, before {settle:?} of idling", thousands(grown(at_once))),
            ],
        }
    }
}

/// The use of an idle gateway since the watch began.
struct Watch {
    window: Window,
    redis_calls: u64,
}

struct Watched {
    spent: Spent,
    redis_calls: u64,
}

impl Watch {
    fn begin(harness: &BenchHarness) -> Result<Self, Failure> {
        Ok(Self {
            window: Window::open(harness.gateway.pid(), Some(harness.redis.pid()))?,
            redis_calls: harness.redis_calls()?,
        })
    }

    fn end(self, harness: &BenchHarness) -> Result<Watched, Failure> {
        let spent = self.window.close(Duration::ZERO)?;
        Ok(Watched { spent, redis_calls: harness.redis_calls()? - self.redis_calls })
    }
}

impl Watched {
    fn row(&self, connections: &str) -> BudgetRow {
        let (cores, wall) = (self.spent.server_share(), self.spent.wall.as_secs_f64());
        let foreign = self.spent.foreign_cores();
        let advice = if self.spent.is_quiet() { "" } else { ": too much, do not quote" };
        BudgetRow {
            what: format!("CPU of an instance with {connections} idle connections"),
            measured: format!("{:.2} % of a core", cores * 100.0),
            limit: format!("≤ {} %", IDLE_CORES_MAX * 100.0),
            verdict: BudgetVerdict::at_most(cores, IDLE_CORES_MAX),
            notes: vec![
                format!("over {wall:.0} s, with a ping to each connection every 30 s"),
                format!("{:.1} commands a second to Redis", self.redis_calls as f64 / wall),
                format!("others on this machine used {foreign:.2} cores meanwhile{advice}"),
            ],
        }
    }
}

/// Keeps the connections idle and answers pings. Fails if anything else arrives.
fn poll_for(clients: &mut Clients, duration: Duration) -> Result<(), Failure> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        clients.poll(Duration::from_millis(50), |_, _| Ok(()))?;
    }
    Ok(())
}

fn check_descriptors(connections: usize) -> Result<(), Failure> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let needed = connections as u64 + DESCRIPTORS_SPARE;
    match limit {
        Some(limit) if limit < needed => {
            Err(Failure::Unmeasurable(format!("{needed} descriptors are needed and {limit} allowed (ulimit -n)")))
        }
        _ => Ok(()),
    }
}

fn kernel_row(per_connection: Option<f64>) -> BudgetRow {
    BudgetRow {
        what: "kernel memory per connection, both ends of it".into(),
        measured: per_connection.map_or("not readable".into(), |bytes| format!("{} bytes", thousands(bytes))),
        limit: "-".into(),
        verdict: BudgetVerdict::Stated,
        notes: vec![
            "slab objects TCP, sock_inode_cache, filp and eventpoll_epi, and TCP's buffer pages; \
            the client's socket is on this machine too, so the gateway's share is about half"
                .into(),
        ],
    }
}

fn storm_row(storm: &Storm, cpu: Duration, connections: usize) -> BudgetRow {
    let cpu_us = cpu.as_secs_f64() * 1e6 / connections as f64;
    let per_s = connections as f64 / storm.duration.as_secs_f64();
    BudgetRow {
        what: "CPU per connect + HS256 + subscribe, nothing replayed".into(),
        measured: format!("{cpu_us:.1} µs"),
        limit: format!("≤ {CPU_US_MAX:.0} µs"),
        verdict: BudgetVerdict::at_most(cpu_us, CPU_US_MAX),
        notes: vec![format!(
            "{} connections/s; connect to subscribed p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            thousands(per_s),
            storm.latencies.quantile_ms(0.5),
            storm.latencies.quantile_ms(0.99),
            storm.latencies.longest_ms()
        )],
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
