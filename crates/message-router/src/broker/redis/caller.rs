//! One function call on the command connection, from the command to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyspace::{Function, Keyspace, Library, Loaded};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::{Position, Scope, Timestamp};

use crate::broker::{Entry, History, Publish};

/// Calls functions of the library, and loads it when it has gone. A handle: clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    connection: MultiplexedConnection,
    library: Arc<Library>,
    /// Held while loading: a thousand calls that miss the library load it once.
    loading: Arc<Mutex<()>>,
    deadline: Duration,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Redis said no: nothing was done.
    #[error("{0}")]
    Refused(String),
    /// No answer within the deadline; whether the call was carried out is unknown.
    #[error("Redis did not answer in time")]
    Late,
    /// The connection is gone; whether the call was carried out is unknown.
    #[error("the command connection broke: {0}")]
    Broken(String),
}

// === impl Caller ===

impl Caller {
    pub(super) fn new(connection: MultiplexedConnection, library: Arc<Library>, deadline: Duration) -> Self {
        Self { connection, library, loading: Arc::default(), deadline }
    }

    /// Stores and publishes; the position is the last message's.
    pub(super) async fn publish(self, keyspace: &Keyspace, publish: &Publish) -> Result<Position, CallError> {
        let mut command = scoped(Function::PUBLISH, keyspace, &publish.scope);
        for (topic, message) in &publish.messages {
            command.arg(&**topic).arg(&**message);
        }
        position(&self.call(&command).await?)
    }

    /// Where a scope stands. One that has not begun is begun, so that what follows is owed from a position on.
    pub(super) async fn read(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Result<History, CallError> {
        let after = after.map(|position| position.to_string()).unwrap_or_default();
        let command = |function| {
            let mut command = scoped(function, keyspace, scope);
            command.arg(&after).arg(entries_max);
            command
        };
        match self.call(&command(Function::READ)).await? {
            Value::Nil => history(self.call(&command(Function::OPEN)).await?),
            begun => history(begun),
        }
    }

    /// Says a word to ourselves.
    pub(super) async fn probe(self, channel: &str, word: &str) -> Result<(), CallError> {
        let mut command = function(Function::PROBE);
        command.arg(channel).arg(word);
        self.call(&command).await.map(drop)
    }

    /// Makes sure that our library is there, or a newer one.
    pub(super) async fn load_library(&self) -> Result<(), CallError> {
        let _loading = self.loading.lock().await;
        match self.send(&function(Function::VERSION)).await {
            Err(CallError::Refused(text)) if is_missing(&text) => {}
            Err(error) => return Err(error),
            Ok(answer) => {
                let (version, digest): (u32, String) =
                    redis::from_redis_value(answer).map_err(|e| strange(&e.to_string()))?;
                match self.library.compare(version, &digest) {
                    Loaded::Same => return Ok(()),
                    Loaded::Newer => {
                        tracing::info!(version, "a newer gateway's function library is loaded: using that");
                        return Ok(());
                    }
                    Loaded::Replace => tracing::info!(version, digest, "replacing another function library"),
                }
            }
        }
        let mut command = redis::cmd("FUNCTION");
        command.arg("LOAD").arg("REPLACE").arg(self.library.source());
        self.send(&command).await.map(drop)
    }

    /// Any command, under the deadline.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut connection = self.connection.clone();
        match timeout(self.deadline, connection.send_packed_command(command)).await {
            Err(_) => Err(CallError::Late),
            Ok(Ok(Value::ServerError(error))) => Err(RedisError::from(error).into()),
            Ok(answer) => Ok(answer?),
        }
    }

    /// One call, and once more if the library was missing: after FUNCTION FLUSH, or a restart without persistence.
    async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        match self.send(command).await {
            Err(CallError::Refused(text)) if is_missing(&text) => {
                self.load_library().await?;
                self.send(command).await
            }
            answer => answer,
        }
    }
}

// === impl CallError ===

impl CallError {
    /// Whether this connection, or the Redis behind it, is the wrong one to go on with.
    pub(super) fn ends_link(&self) -> bool {
        match self {
            Self::Refused(text) => text.starts_with("READONLY"),
            Self::Late => false,
            Self::Broken(_) => true,
        }
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let text = [error.code().unwrap_or("ERR"), error.detail().unwrap_or_default()].join(" ");
                Self::Refused(text)
            }
            _ if error.is_timeout() => Self::Late,
            _ => Self::Broken(error.to_string()),
        }
    }
}

fn is_missing(text: &str) -> bool {
    text.contains("Function not found")
}

/// An answer no function of ours gives. The call may have been carried out.
fn strange(what: &str) -> CallError {
    CallError::Broken(format!("an answer of another shape: {what}"))
}

fn function(function: Function) -> Cmd {
    let mut command = redis::cmd(function.command());
    command.arg(function.name).arg(function.keys);
    command
}

fn scoped(called: Function, keyspace: &Keyspace, scope: &Scope) -> Cmd {
    debug_assert_eq!(called.keys, 2, "a scope has a stream and metadata");
    let mut command = function(called);
    command.arg(keyspace.stream(scope)).arg(keyspace.meta(scope));
    command
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn position(value: &Value) -> Result<Position, CallError> {
    text(value).and_then(|text| text.parse().ok()).ok_or_else(|| strange("no position"))
}

/// `{ top, { earlier }, { { position, time, topic, message } }, more }`
fn history(value: Value) -> Result<History, CallError> {
    let Value::Array(parts) = value else { return Err(strange("no list")) };
    let [top, Value::Array(earlier), Value::Array(entries), Value::Int(more)] =
        <[Value; 4]>::try_from(parts).map_err(|_| strange("not four parts"))?
    else {
        return Err(strange("parts of other types"));
    };
    let earlier = earlier.iter().map(position).map(|p| p.map(|p| (p.generation, p.offset)));
    Ok(History {
        top: position(&top)?,
        earlier: earlier.collect::<Result<_, _>>()?,
        entries: entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        more: more != 0,
    })
}

fn entry(value: Value) -> Result<Entry, CallError> {
    let Value::Array(parts) = value else { return Err(strange("no entry")) };
    let [id, time, topic, Value::BulkString(message)] =
        <[Value; 4]>::try_from(parts).map_err(|_| strange("an entry of other than four parts"))?
    else {
        return Err(strange("an entry without message"));
    };
    let time = text(&time).and_then(|text| text.parse().ok()).ok_or_else(|| strange("no time"))?;
    let topic = text(&topic).ok_or_else(|| strange("no topic"))?;
    Ok(Entry { position: position(&id)?, time: Timestamp(time), topic: topic.into(), message: Bytes::from(message) })
}
