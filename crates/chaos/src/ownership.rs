//! Watches ownership in Redis itself: whether a stale write was accepted, how long rows of dead incarnations stay, and
//! whether the rows match the open sockets.
//!
//! ```text
//!   Redis ── MONITOR ──▶ lease log ── stale calls, repeated exactly ──▶ Redis   none may change anything
//!         ── rows, leases ──▶ stale rows                                          no rows after 10 s
//! ```

mod lease_log;
mod monitor_line;
mod stale_rows;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::lease_log::{LeaseLog, Words};
use self::monitor_line::MonitorLine;
use self::stale_rows::{Rows, StaleRows};
use crate::redis_server::connect;

/// Rows of dead incarnations are gone by then. The rest is one polling interval.
const STALE_ROWS_TIME_MAX: Duration = Duration::from_millis(10_000 + 2 * 250);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const CALL_TIME_MAX: Duration = Duration::from_millis(1_000);
/// New rows are written at once. Rows of closed connections are removed at a heartbeat.
const AGREE_TIME_MAX: Duration = Duration::from_secs(12);

const ROWS_MARK: &str = ":{registry}:rows:";
const LEASE_MARK: &str = ":{registry}:lease:";

/// A violation of the ownership rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Breach {
    /// The name of the violation for `--expect`.
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

/// The observations of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// Number of calls with an outdated token. Each of them changed nothing.
    pub(crate) stale_refused: u64,
    /// The longest time for which rows of an ended incarnation stayed in Redis.
    pub(crate) stale_rows_ms_max: u64,
    pub(crate) breaches: Vec<Breach>,
}

/// The open sockets by connection: the instance, and the session id that it gave.
pub(crate) type Open = Mutex<BTreeMap<u64, (String, String)>>;

#[derive(Debug, Default)]
struct Seen {
    lease_log: LeaseLog,
    stale_rows: StaleRows,
    rows: Rows,
    breaches: Vec<Breach>,
}

/// Watches Redis until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    redis: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Ownership {
    /// Watches the Redis at this address, whichever server it is at the moment.
    pub(crate) fn watch(redis: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (again, stale) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(redis, Arc::clone(&seen), again.clone()));
        tasks.spawn(look(redis, Arc::clone(&seen), again));
        tasks.spawn(call_again(redis, stale));
        Self { redis, seen, _tasks: tasks }
    }

    /// The current incarnation of this instance has ended. Its rows belong to nothing.
    pub(crate) fn died(&self, instance: &str) {
        let mut seen = lock(&self.seen);
        let rows = seen.rows.clone();
        seen.stale_rows.died(instance, &rows);
    }

    pub(crate) fn breach(&self, kind: &'static str, detail: String) {
        lock(&self.seen).breaches.push(Breach { kind, detail });
    }

    /// Number of stale calls that have been refused so far.
    pub(crate) fn stale_refused(&self) -> u64 {
        lock(&self.seen).lease_log.refused
    }

    /// The incarnation of this instance that holds its lease.
    pub(crate) fn holder(&self, instance: &str) -> Option<String> {
        lock(&self.seen).rows.holders.get(instance).cloned()
    }

    /// Waits until the rows name exactly the open sockets. Notes a breach if they do not.
    pub(crate) async fn settle(&self, open: &Open) {
        let deadline = Instant::now() + AGREE_TIME_MAX;
        loop {
            let detail = match rows(self.redis).await {
                Ok(rows) => difference(&rows, &lock(open)),
                Err(error) => Some(error.to_string()),
            };
            let Some(detail) = detail else { return };
            if Instant::now() > deadline {
                return self.breach("wrong_rows", detail);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn report(&self) -> Report {
        let mut seen = lock(&self.seen);
        let mut breaches = std::mem::take(&mut seen.breaches);
        let accepted = std::mem::take(&mut seen.lease_log.accepted);
        breaches.extend(accepted.into_iter().map(|detail| Breach { kind: "stale_write", detail }));
        let (longest, incarnation_id) = seen.stale_rows.longest.clone().unwrap_or_default();
        if longest > STALE_ROWS_TIME_MAX {
            let detail = format!(
                "rows of {} {} stood for {} ms after its end",
                incarnation_id.0,
                incarnation_id.1,
                longest.as_millis()
            );
            breaches.push(Breach { kind: "stale_row", detail });
        }
        let stale_rows_ms_max = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Report { stale_refused: seen.lease_log.refused, stale_rows_ms_max, breaches }
    }
}

/// The first difference between rows and open sockets, if any.
fn difference(rows: &Rows, open: &BTreeMap<u64, (String, String)>) -> Option<String> {
    let mut listed = BTreeSet::new();
    for ((instance, incarnation), sessions) in &rows.sessions {
        if rows.holders.get(instance) != Some(incarnation) {
            return Some(format!("rows of {instance} {incarnation}, which holds no lease"));
        }
        listed.extend(sessions.iter().map(|session| (instance.clone(), session.clone())));
    }
    let open: BTreeSet<_> = open.values().cloned().collect();
    let (more, less): (Vec<_>, Vec<_>) = (listed.difference(&open).collect(), open.difference(&listed).collect());
    (listed != open).then(|| {
        let some = (more.first(), less.first());
        format!("{} rows without a socket, {} sockets without a row, of them {some:?}", more.len(), less.len())
    })
}

async fn rows(redis: SocketAddr) -> RedisResult<Rows> {
    look_at(&mut connect(redis, CALL_TIME_MAX).await?).await
}

async fn look_at(connection: &mut MultiplexedConnection) -> RedisResult<Rows> {
    let mut rows = Rows::default();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:{registry}:*").query_async(connection).await?;
    for key in keys {
        if let Some((_, incarnation_id)) = key.split_once(ROWS_MARK)
            && let Some((instance, incarnation)) = incarnation_id.rsplit_once(':')
        {
            let sessions: BTreeSet<String> = redis::cmd("HKEYS").arg(&key).query_async(connection).await?;
            if !sessions.is_empty() {
                rows.sessions.insert((instance.to_owned(), incarnation.to_owned()), sessions);
            }
        } else if let Some((_, instance)) = key.split_once(LEASE_MARK) {
            let token: Option<String> = redis::cmd("GET").arg(&key).query_async(connection).await?;
            if let Some((_, incarnation)) = token.as_deref().and_then(|token| token.rsplit_once(':')) {
                rows.holders.insert(instance.to_owned(), incarnation.to_owned());
            }
        }
    }
    Ok(rows)
}

/// Reads the registry periodically.
async fn look(redis: SocketAddr, seen: Arc<Mutex<Seen>>, again: mpsc::UnboundedSender<Words>) {
    let mut connection: Option<MultiplexedConnection> = None;
    loop {
        sleep(LOOK_EVERY).await;
        if connection.is_none() {
            connection = connect(redis, CALL_TIME_MAX).await.ok();
        }
        let Some(open) = &mut connection else { continue };
        match look_at(open).await {
            Ok(rows) => {
                let mut seen = lock(&seen);
                let now = std::time::Instant::now();
                seen.stale_rows.look(&rows, now);
                seen.rows = rows;
                seen.lease_log.tick(now).into_iter().for_each(|words| _ = again.send(words));
            }
            Err(_) => connection = None,
        }
    }
}

/// Reads `MONITOR`. After each new connection it knows nothing of the past.
async fn listen(redis: SocketAddr, seen: Arc<Mutex<Seen>>, again: mpsc::UnboundedSender<Words>) {
    loop {
        if let Ok(stream) = TcpStream::connect(redis).await {
            lock(&seen).lease_log.forget();
            let _ = receive(stream, &seen, &again).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn receive(
    mut stream: TcpStream,
    seen: &Mutex<Seen>,
    again: &mpsc::UnboundedSender<Words>,
) -> std::io::Result<()> {
    stream.write_all(b"MONITOR\r\n").await?;
    let (mut reader, mut text) = (BufReader::new(stream), Vec::new());
    while reader.read_until(b'\n', &mut text).await? > 0 {
        if let Some(line) = MonitorLine::parse(text.trim_ascii_end()) {
            let stale = lock(seen).lease_log.receive(&line, std::time::Instant::now());
            stale.into_iter().for_each(|words| _ = again.send(words));
        }
        text.clear();
    }
    Ok(())
}

/// Repeats calls of an ended incarnation, as a packet would that was delayed for too long.
async fn call_again(redis: SocketAddr, mut stale: mpsc::UnboundedReceiver<Words>) {
    while let Some(words) = stale.recv().await {
        let Ok(mut connection) = connect(redis, CALL_TIME_MAX).await else { continue };
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| _ = command.arg(word.as_slice()));
        // The result is read from `MONITOR`.
        let _ = command.query_async::<Value>(&mut connection).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_agree_with_the_open_sockets_or_say_why_not() {
        let open: BTreeMap<_, _> = [(7, ("gw-1".to_owned(), "aa".to_owned()))].into();
        let rows = |incarnation: &str, sessions: &[&str]| Rows {
            sessions: [(
                ("gw-1".to_owned(), incarnation.to_owned()),
                sessions.iter().map(ToString::to_string).collect(),
            )]
            .into(),
            holders: [("gw-1".to_owned(), "2".to_owned())].into(),
        };
        assert_eq!(difference(&rows("2", &["aa"]), &open), None);
        let detail = |incarnation, sessions| difference(&rows(incarnation, sessions), &open).unwrap();
        assert!(detail("2", &["aa", "bb"]).starts_with("1 rows without a socket, 0 sockets without a row"));
        assert!(detail("2", &["bb"]).starts_with("1 rows without a socket, 1 sockets without a row"));
        assert!(detail("1", &["aa"]).starts_with("rows of gw-1 1"));
    }
}
