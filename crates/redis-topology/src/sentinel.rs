//! Asking Sentinels which server is the primary.

use std::time::Duration;

use redis::{RedisConnectionInfo, RedisError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::node::Node;
use crate::target::{connect, info};

/// A Sentinel that has not answered by then is passed over: in an outage it may have gone with the primary's machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// Once one has answered, a majority is waited for no longer than this: whoever asks has little more time than a silent one
/// is given.
const OTHERS_WITHIN: Duration = Duration::from_millis(400);

/// Who watches a primary.
#[derive(Debug, Clone)]
pub struct Sentinels {
    pub(crate) nodes: Vec<Node>,
    pub(crate) master: String,
    pub(crate) settings: RedisConnectionInfo,
}

/// Why the Sentinels do not say where the primary is.
#[derive(Debug, thiserror::Error)]
pub enum SentinelError {
    /// They answer, and have never heard of it.
    #[error("no Sentinel watches a master called {0:?}; SENTINEL MASTERS tells the names")]
    Unknown(String),
    /// None answers.
    #[error("no Sentinel answers: {0}")]
    Silent(String),
}

/// What one Sentinel says: the primary, and the number of the failover that made it that.
type Answer = (u64, Node);

impl Sentinels {
    /// The name under which they watch the primary.
    #[must_use]
    pub fn master(&self) -> &str {
        &self.master
    }

    /// Their own addresses.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Who we are to them.
    #[must_use]
    pub fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// The primary, by the newest of the answers.
    ///
    /// All are asked at once, and a majority of answers is enough: one Sentinel that was cut off while the others
    /// changed the primary must not send us to the old one. Fewer are enough when the others are silent. Whether the server
    /// still is the primary, it must say itself.
    ///
    /// # Errors
    /// When none answers, or none knows the master.
    pub async fn primary(&self) -> Result<Node, SentinelError> {
        self.primary_within(ANSWER_DEADLINE).await
    }

    async fn primary_within(&self, deadline: Duration) -> Result<Node, SentinelError> {
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            asked.spawn(ask(node.clone(), self.settings.clone(), self.master.clone(), deadline));
        }
        let (mut newest, mut answers, mut failures) = (None::<Answer>, 0, Vec::new());
        let others = sleep(Duration::MAX);
        tokio::pin!(others);
        loop {
            let answer = tokio::select! {
                answer = asked.join_next() => answer,
                () = &mut others => None,
            };
            let Some(answer) = answer else { break };
            match answer.expect("a question does not panic, and is aborted only with all") {
                Ok(answer) => {
                    answers += 1;
                    if answer.as_ref().is_some_and(|(epoch, _)| newest.as_ref().is_none_or(|(best, _)| epoch > best)) {
                        if newest.is_none() {
                            others.as_mut().reset(Instant::now() + OTHERS_WITHIN);
                        }
                        newest = answer;
                    }
                    if newest.is_some() && answers > self.nodes.len() / 2 {
                        break;
                    }
                }
                Err((node, error)) => failures.push(format!("{node}: {error}")),
            }
        }
        match newest {
            Some((_, node)) => Ok(node),
            None if answers > 0 => Err(SentinelError::Unknown(self.master.clone())),
            None => Err(SentinelError::Silent(failures.join("; "))),
        }
    }
}

async fn ask(
    node: Node,
    settings: RedisConnectionInfo,
    master: String,
    deadline: Duration,
) -> Result<Option<Answer>, (Node, RedisError)> {
    ask_at(&node, &settings, &master, deadline).await.map_err(|error| (node, error))
}

/// Nothing when it does not know the master.
///
/// The address comes from its own command: while a failover goes on it is the new primary's already, and the number
/// is the new one from the same moment.
async fn ask_at(
    node: &Node,
    settings: &RedisConnectionInfo,
    master: &str,
    deadline: Duration,
) -> Result<Option<Answer>, RedisError> {
    let mut connection = connect(info(node, settings), deadline).await?;
    let mut where_is = redis::cmd("SENTINEL");
    where_is.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let Some((host, port)) = where_is.query_async::<Option<(String, u16)>>(&mut connection).await? else {
        return Ok(None);
    };
    let mut details = redis::cmd("SENTINEL");
    details.arg("MASTER").arg(master);
    let fields: Vec<String> = details.query_async(&mut connection).await?;
    let (pairs, _) = fields.as_chunks::<2>();
    let epoch = pairs.iter().find(|[name, _]| name == "config-epoch").and_then(|[_, value]| value.parse().ok());
    Ok(Some((epoch.unwrap_or(0), Node { host, port })))
}

#[cfg(test)]
mod tests;
