//! Finds the primary by the Sentinels' answers and announcements.
//!
//! ```text
//!   primary ───▶ asks all ─────────────┐
//!   replaced ──▶ asks now and then ────┤
//!   announced ◀─ +switch-master ───────┴──▶ KnownPrimary ──▶ the primary, or the one known where all answers are older
//! ```

mod known;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::known::{KnownPrimary, Report, Verdict};
use crate::node::Node;
use crate::socket::{RedisSocket, connect, connection_info, open_within};
use crate::tls::RedisTls;

/// Longest wait for a Sentinel's answer. In an outage a Sentinel may be gone together with the primary's machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// After the first answer, longest wait for a majority: the caller has little more time than `ANSWER_DEADLINE`.
const OTHERS_WITHIN: Duration = Duration::from_millis(400);

/// After a majority of answers that are all older than the known primary, longest wait for the rest.
const REST_WITHIN: Duration = Duration::from_millis(100);

/// Between two queries while a majority has not confirmed the primary.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(1);
/// Between two queries once a majority has: a failover that was not announced is noticed within this time.
const SETTLED_INTERVAL: Duration = Duration::from_secs(10);

/// The Sentinels of one primary. Clones share what is known of it.
#[derive(Debug, Clone)]
pub struct Sentinels {
    pub(crate) nodes: Vec<Node>,
    pub(crate) master: String,
    pub(crate) settings: RedisConnectionInfo,
    tls: Option<RedisTls>,
    state: Arc<watch::Sender<KnownPrimary>>,
}

/// Why the Sentinels do not name the primary.
#[derive(Debug, thiserror::Error)]
pub enum SentinelError {
    /// They answer, and do not know the master.
    #[error("no Sentinel watches a master called {0:?}; SENTINEL MASTERS tells the names")]
    Unknown(String),
    /// None answers.
    #[error("no Sentinel answers: {0}")]
    Silent(String),
}

impl Sentinels {
    pub(crate) fn new(nodes: Vec<Node>, master: String, settings: RedisConnectionInfo, tls: Option<RedisTls>) -> Self {
        Self { nodes, master, settings, tls, state: Arc::default() }
    }

    /// Opens a socket to one of the Sentinels.
    ///
    /// # Errors
    /// If it does not accept the connection, or is not trusted.
    pub async fn connect(&self, node: &Node) -> io::Result<RedisSocket> {
        connect((&*node.host, node.port), &node.host, self.tls.as_ref()).await
    }

    /// The name under which the Sentinels watch the primary.
    #[must_use]
    pub fn master(&self) -> &str {
        &self.master
    }

    /// The Sentinels' own addresses.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// User and password for the Sentinels.
    #[must_use]
    pub fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// The primary, by the newest of the answers and of what was known before.
    ///
    /// All Sentinels are asked at once, and a majority of answers is enough: one Sentinel that was cut off during a
    /// failover must not lead to the old primary. Fewer answers are enough if the others are silent. If all answers
    /// are older than the known primary, the known one is returned. Only the server itself can say whether it is still
    /// the primary.
    ///
    /// # Errors
    /// If none answers, or none knows the master.
    pub async fn primary(&self) -> Result<Node, SentinelError> {
        self.ask_all(ANSWER_DEADLINE).await.map(|answer| answer.primary)
    }

    /// Whether no other server is known to be the primary.
    #[must_use]
    pub fn is_current(&self, node: &Node) -> bool {
        self.state.borrow().primary().is_none_or(|primary| primary == node)
    }

    /// Ends when a server other than `node` is known to be the primary, whichever part of the process has found that
    /// out. Asks the Sentinels at intervals.
    pub async fn replaced(&self, node: &Node) -> Node {
        let mut state = self.state.subscribe();
        let replaced = async {
            loop {
                if let Some(primary) = state.borrow_and_update().primary()
                    && primary != node
                {
                    return primary.clone();
                }
                state.changed().await.expect("we hold its sender");
            }
        };
        tokio::select! {
            primary = replaced => primary,
            never = self.ask_now_and_then() => match never {},
        }
    }

    /// Takes in that a Sentinel has named `primary` as the primary of this configuration epoch. It is the report of
    /// one Sentinel, which may be behind the others.
    pub fn reported(&self, primary: Node, epoch: u64) {
        self.learn(&[Report { epoch, primary }]);
    }

    /// Takes in a failover that a Sentinel has announced by `+switch-master` without a known epoch. It counts as newer
    /// than all that is known, until there is an answer with a higher epoch than the known one.
    pub fn announced(&self, primary: Node) {
        self.state.send_if_modified(|state| {
            let is_news = state.primary() != Some(&primary);
            if is_news {
                state.announced(primary);
            }
            is_news
        });
    }

    async fn ask_now_and_then(&self) -> Infallible {
        let mut pause = UNSETTLED_INTERVAL;
        loop {
            sleep(pause).await;
            let is_settled = self.ask_all(ANSWER_DEADLINE).await.is_ok_and(|answer| answer.is_settled);
            pause = if is_settled { SETTLED_INTERVAL } else { UNSETTLED_INTERVAL };
        }
    }

    async fn ask_all(&self, deadline: Duration) -> Result<SentinelReply, SentinelError> {
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            let info = connection_info(node, &self.settings, self.tls.as_ref());
            asked.spawn(ask(node.clone(), info, self.master.clone(), deadline));
        }
        let (mut reports, mut answers, mut failures) = (Vec::new(), 0, Vec::new());
        let others = sleep(Duration::MAX);
        tokio::pin!(others);
        loop {
            let answer = tokio::select! {
                answer = asked.join_next() => answer,
                () = &mut others => None,
            };
            let Some(answer) = answer else { break };
            match answer.expect("a question does not panic, and is aborted only with all") {
                Ok(report) => {
                    answers += 1;
                    if reports.is_empty() && report.is_some() {
                        others.as_mut().reset(Instant::now() + OTHERS_WITHIN);
                    }
                    reports.extend(report);
                    if !reports.is_empty() && answers > self.nodes.len() / 2 {
                        if self.state.borrow().is_current(&reports) {
                            break;
                        }
                        let rest = Instant::now() + REST_WITHIN;
                        if rest < others.deadline() {
                            others.as_mut().reset(rest);
                        }
                    }
                }
                Err((node, error)) => failures.push(format!("{node}: {error}")),
            }
        }
        match reports.is_empty() {
            false => Ok(self.learn(&reports)),
            true if answers > 0 => Err(SentinelError::Unknown(self.master.clone())),
            true => Err(SentinelError::Silent(failures.join("; "))),
        }
    }

    /// Takes in the reports of one query.
    fn learn(&self, reports: &[Report]) -> SentinelReply {
        let (mut before, mut verdict) = (None, Verdict::Stale { is_first: false });
        self.state.send_if_modified(|state| {
            before = state.newest().cloned();
            verdict = state.learn(reports, self.nodes.len(), Instant::now());
            state.primary() != before.as_ref().map(|report| &report.primary)
        });
        let state = self.state.borrow().newest().cloned().expect("reports have just been learned");
        let master = &self.master;
        match (verdict, before) {
            (Verdict::Stale { is_first: true }, _) => {
                let replies = reports.iter().map(|report| format!("{} (epoch {})", report.primary, report.epoch));
                let (replies, primary, epoch) = (replies.collect::<Vec<_>>().join(", "), &state.primary, state.epoch);
                tracing::warn!(%master, %primary, epoch, replies, "Sentinel answers ignored: older than the known primary");
            }
            (Verdict::Forgotten, Some(Report { epoch, primary })) => {
                let (now, epoch_now) = (&state.primary, state.epoch);
                tracing::warn!(%master, %primary, epoch, %now, epoch_now, "Sentinels no longer know the known primary");
            }
            _ => {}
        }
        SentinelReply { primary: state.primary, is_settled: verdict == Verdict::Current { is_settled: true } }
    }
}

/// Result of a query to all Sentinels.
struct SentinelReply {
    primary: Node,
    /// Whether a majority names this primary.
    is_settled: bool,
}

async fn ask(
    node: Node,
    info: ConnectionInfo,
    master: String,
    deadline: Duration,
) -> Result<Option<Report>, (Node, RedisError)> {
    ask_at(info, &master, deadline).await.map_err(|error| (node, error))
}

/// Asks one Sentinel. Nothing if it does not know the master.
///
/// The address comes from its own command. During a failover that command already names the new primary, and the epoch
/// is the new one from the same moment. The epoch is read first: if a failover comes in between, the report counts as
/// older than it is, and the next one corrects that. An old address with a new epoch would be believed.
async fn ask_at(info: ConnectionInfo, master: &str, deadline: Duration) -> Result<Option<Report>, RedisError> {
    let mut connection = open_within(info, deadline).await?;
    let mut details = redis::cmd("SENTINEL");
    details.arg("MASTER").arg(master);
    let fields = match details.query_async::<Vec<String>>(&mut connection).await {
        // The Sentinel most likely does not know the master; the second answer says so for certain.
        Err(error) if !matches!(error.kind(), ErrorKind::Server(_)) => return Err(error),
        fields => fields,
    };
    let mut where_is = redis::cmd("SENTINEL");
    where_is.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let Some((host, port)) = where_is.query_async::<Option<(String, u16)>>(&mut connection).await? else {
        return Ok(None);
    };
    let fields = fields?;
    let (pairs, _) = fields.as_chunks::<2>();
    let epoch = pairs.iter().find(|[name, _]| name == "config-epoch").and_then(|[_, value]| value.parse().ok());
    Ok(Some(Report { epoch: epoch.unwrap_or(0), primary: Node { host, port } }))
}

#[cfg(test)]
mod tests;
