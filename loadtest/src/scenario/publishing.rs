//! Row 7: the number of messages that one Redis stores, counts, fences and publishes.

use keyspace::{Keyspace, Library};
use test_support::{Process, ReservedPort, redis_server};
use wire::{Families, Scope};

use super::{Setting, Sizes};
use crate::failure::Failure;
use crate::process::{await_listening, reserve_port, start};
use crate::publish_load::{Listener, PublishLoad, publish_for_load};
use crate::report::{BudgetRow, BudgetVerdict, Spread, thousands};
use crate::window::{FOREIGN_CORES_MAX, Spent, Window};

/// Required messages per second and Redis, eight per call into one scope.
const MESSAGES_MIN: f64 = 200_000.0;
/// A family's defaults: one hour, a thousand messages.
const TTL_MS: u64 = 60 * 60 * 1_000;
const ENTRIES_MAX: u64 = 1_000;
/// Redis trims whole nodes of 100 entries, and only once per call.
const TRIM_SLACK: u64 = 200;

/// A way to publish that is measured.
struct Shape {
    what: &'static str,
    load: PublishLoad,
    limit: Option<f64>,
}

const PIPELINED: PublishLoad = PublishLoad { connections: 4, depth: 16, batch: 8, ids: false };

const SHAPES: [Shape; 5] = [
    Shape { what: "publish in eights into one scope", load: PIPELINED, limit: Some(MESSAGES_MIN) },
    Shape { what: "publish singly", load: PublishLoad { batch: 1, ..PIPELINED }, limit: None },
    Shape { what: "publish in eights with ids", load: PublishLoad { ids: true, ..PIPELINED }, limit: None },
    Shape { what: "publish singly with ids", load: PublishLoad { batch: 1, ids: true, ..PIPELINED }, limit: None },
    Shape {
        what: "publish in eights, 32 backends that wait for each answer",
        load: PublishLoad { connections: 32, depth: 1, ..PIPELINED },
        limit: None,
    },
];

/// The result of one window of one shape.
struct ShapeWindow {
    messages: u64,
    spent: Spent,
}

/// Runs a separate Redis on the server's core, and the backends and the listener on the other cores.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let redis = RedisUnderTest::start(setting)?;
    let mut windows: Vec<Vec<ShapeWindow>> = SHAPES.iter().map(|_| Vec::new()).collect();
    let mut tops = [0; SHAPES.len()];
    // The shapes alternate, so that a disturbance of the machine does not affect only one shape.
    for round in 0..=setting.sizes.pairs {
        for (index, shape) in SHAPES.iter().enumerate() {
            let window = redis.shoot(setting, index, shape.load, round, &mut tops[index])?;
            // The first round only warms up.
            if round > 0 {
                windows[index].push(window);
            }
        }
    }
    let mut rows: Vec<BudgetRow> = SHAPES.iter().zip(&windows).map(|(shape, windows)| row(shape, windows)).collect();
    rows[0].notes.push("messages of 100 bytes; one listener, which heard every one of them".into());
    for (index, _) in SHAPES.iter().enumerate().filter(|(_, shape)| shape.load.ids) {
        let (ids, bytes) = redis.ids(index)?;
        let per_id = bytes as f64 / ids as f64;
        rows[index].notes.push(format!("{} ids were kept, of {per_id:.0} bytes each", thousands(ids as f64)));
    }
    Ok(rows)
}

/// The Redis that is measured.
struct RedisUnderTest {
    redis: Process,
    url: String,
    _port: ReservedPort,
}

impl RedisUnderTest {
    fn start(setting: &Setting) -> Result<Self, Failure> {
        let port = reserve_port()?;
        let mut command = redis_server::command(port.number(), &std::env::temp_dir());
        // With this setting, a slow listener makes the figure worse but does not fail the run.
        command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
        let mut redis = start("redis", &[setting.cores.server], &command)?;
        await_listening(&mut redis, port.address())?;
        let redis_under_test = Self { redis, url: format!("redis://{}", port.address()), _port: port };
        let families = Families::default();
        let library = Library::new(families.iter().map(|(_, shape)| (shape, TTL_MS, ENTRIES_MAX)));
        redis_under_test.ask::<String>(redis::cmd("FUNCTION").arg("LOAD").arg(library.source()))?;
        Ok(redis_under_test)
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Failure> {
        let client = redis::Client::open(self.url.as_str()).map_err(Failure::redis("Redis' address"))?;
        let mut connection = client.get_connection().map_err(Failure::redis("a connection to Redis"))?;
        command.query(&mut connection).map_err(Failure::redis("asking Redis"))
    }

    /// Runs one window. Every acknowledged message must be counted and received, and kept as far as the family keeps
    /// messages.
    fn shoot(
        &self,
        setting: &Setting,
        index: usize,
        shape: PublishLoad,
        round: usize,
        top: &mut u64,
    ) -> Result<ShapeWindow, Failure> {
        let Sizes { step, .. } = setting.sizes;
        let (scope, clients) = (scope(index), &setting.cores.clients);
        let listener = Listener::start(&self.url, clients.clone(), &scope, *top)?;
        let window = Window::open(self.redis.pid(), None)?;
        let acknowledged = publish_for_load(&self.url, clients, &scope, shape, round, step / 2)?;
        *top += acknowledged.messages;
        let listener_cpu = listener.finish(*top)?;
        let spent = window.close(acknowledged.cpu + listener_cpu)?;

        let keys = Keyspace::default();
        let counted: u64 = self.ask(redis::cmd("HGET").arg(keys.meta(&scope)).arg("o"))?;
        if counted != *top {
            return Err(Failure::Deliveries(format!("{top} messages acknowledged, {counted} counted")));
        }
        let kept: u64 = self.ask(redis::cmd("XLEN").arg(keys.stream(&scope)))?;
        if !(ENTRIES_MAX.min(*top)..=ENTRIES_MAX + TRIM_SLACK).contains(&kept) {
            return Err(Failure::Deliveries(format!("{kept} messages kept of {top}")));
        }
        Ok(ShapeWindow { messages: acknowledged.messages, spent })
    }

    /// The number of ids that a scope keeps, and their memory in bytes.
    fn ids(&self, index: usize) -> Result<(u64, u64), Failure> {
        let (mut ids, mut bytes) = (0, 0);
        for key in Keyspace::default().ids(&scope(index)) {
            ids += self.ask::<u64>(redis::cmd("HLEN").arg(&key))?;
            let usage = redis::cmd("MEMORY").arg("USAGE").arg(&key).arg("SAMPLES").arg(10_000).to_owned();
            bytes += self.ask::<Option<u64>>(&usage)?.unwrap_or_default();
        }
        Ok((ids, bytes))
    }
}

fn scope(index: usize) -> Scope {
    Families::default().parse_scope(&format!("default/user:bench-{index}")).expect("a user is a scope")
}

fn row(shape: &Shape, windows: &[ShapeWindow]) -> BudgetRow {
    let spread = |figure: fn(&ShapeWindow) -> f64| Spread::of(&windows.iter().map(figure).collect::<Vec<_>>());
    let per_core = spread(|window| window.messages as f64 / window.spent.server_cpu.as_secs_f64());
    let by_clock = spread(|window| window.messages as f64 / window.spent.wall.as_secs_f64());
    let share = spread(|window| window.spent.server_share());
    let foreign = spread(|window| window.spent.foreign_cores());
    let mut notes = vec![
        format!(
            "{:.2} µs of Redis each; {} to {} in {} windows",
            1e6 / per_core.median,
            thousands(per_core.min),
            thousands(per_core.max),
            windows.len()
        ),
        format!("by the clock {}/s, Redis {:.0} % of its core", thousands(by_clock.median), share.median * 100.0),
    ];
    if foreign.median > FOREIGN_CORES_MAX {
        notes.push(format!("others on this machine used {:.2} cores meanwhile: do not quote", foreign.median));
    }
    BudgetRow {
        what: shape.what.into(),
        measured: format!("{} messages per core-second of Redis", thousands(per_core.median)),
        limit: shape.limit.map_or("-".into(), |limit| format!("≥ {}", thousands(limit))),
        verdict: shape.limit.map_or(BudgetVerdict::Stated, |limit| BudgetVerdict::at_least(per_core.median, limit)),
        notes,
    }
}
