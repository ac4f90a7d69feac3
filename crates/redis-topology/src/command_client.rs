//! Calls that are made now and then: each with one deadline over everything it does, on a connection of the [`Pools`],
//! with the function library loaded where it is missing.

use std::future::Future;
use std::time::Duration;

use deadpool_redis::Connection;
use keyspace::{Function, Library, Loaded, Slot};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, cmd};
use tokio::time::{Instant, timeout_at};

use crate::pools::{PooledConnection, Pools};

/// What is done when Redis does not know a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// The library is loaded in place of an older one: a gateway's.
    Replace,
    /// It is loaded only where there is none: a tool must not change the families that gateways have compiled in.
    FillGap,
}

/// Whoever calls. Clones share the connections.
#[derive(Debug, Clone)]
pub struct CommandClient {
    pools: Pools,
    library: Library,
    loading: Loading,
    deadline: Duration,
}

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// No connection. Nothing was done.
    Unreachable(String),
    /// No answer in time, or the connection broke. Nobody knows whether it was done.
    NoAnswer(Duration),
    /// Redis answered with this error, its code first. Nothing was done.
    Rejected(String),
    /// An answer of another shape than was asked for.
    Malformed(String),
}

/// What may be asked of Redis; asking again does no harm.
pub trait RedisCommand: Sync {
    /// Asks once.
    fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> impl Future<Output = RedisResult<T>> + Send;
}

impl CommandClient {
    /// Whoever calls by these pools, within `deadline` each time.
    #[must_use]
    pub fn new(pools: Pools, library: Library, loading: Loading, deadline: Duration) -> Self {
        Self { pools, library, loading, deadline }
    }

    /// Its connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Asks the server that has a slot, wherever that is by now.
    ///
    /// # Errors
    /// When there is no answer in time, or another one than was asked for.
    pub async fn ask<T: FromRedisValue>(&self, slot: Slot, command: &impl RedisCommand) -> Result<T, CallError> {
        let deadline = Instant::now() + self.deadline;
        loop {
            let held = self.pools.connection(slot, deadline).await;
            let PooledConnection { mut connection, node } =
                held.map_err(|error| CallError::Unreachable(error.to_string()))?;
            let answer = timeout_at(deadline, async {
                match command.ask(&mut connection).await {
                    Err(error) if is_missing(&error) && self.load(&mut connection).await? => {
                        command.ask(&mut connection).await
                    }
                    answer => answer,
                }
            })
            .await;
            match answer {
                Ok(Ok(answer)) => {
                    self.pools.answered(&node);
                    return Ok(answer);
                }
                // Nothing was done: another node of the cluster has the keys, or will have them in a moment.
                Ok(Err(error)) if self.pools.redirected(&node, &error, deadline).await => self.pools.answered(&node),
                Ok(Err(error)) if is_answer(&error) => {
                    self.pools.answered(&node);
                    return Err(CallError::Rejected(error_text(&error)));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedReturnType => {
                    self.pools.answered(&node);
                    return Err(CallError::Malformed(error.to_string()));
                }
                // What it still has to say would be read by nobody, and a demoted primary must not be asked again.
                Ok(Err(error)) => {
                    drop(Connection::take(connection));
                    self.pools.failed(&node);
                    return Err(match is_demoted(&error) {
                        true => CallError::Rejected(error_text(&error)),
                        false => CallError::NoAnswer(self.deadline),
                    });
                }
                Err(_) => {
                    drop(Connection::take(connection));
                    self.pools.failed(&node);
                    return Err(CallError::NoAnswer(self.deadline));
                }
            }
        }
    }

    /// Loads the library where that is allowed. Whether there is a point in calling again.
    async fn load(&self, connection: &mut Connection) -> RedisResult<bool> {
        let version = Function::VERSION;
        let loaded: RedisResult<(u32, String)> =
            cmd(version.command()).arg(version.name).arg(0).query_async(connection).await;
        let mut load = cmd("FUNCTION");
        load.arg("LOAD");
        match loaded.map(|(version, digest)| self.library.compare(version, &digest)) {
            // The broker's link has loaded it since the call failed.
            Ok(Loaded::Same) => return Ok(true),
            Ok(Loaded::Newer) => return Ok(false),
            Ok(Loaded::Replace) if self.loading == Loading::FillGap => return Ok(false),
            Ok(Loaded::Replace) => drop(load.arg("REPLACE")),
            // There is none, or one that is not ours.
            Err(_) if self.loading == Loading::FillGap => {}
            Err(_) => drop(load.arg("REPLACE")),
        }
        load.arg(self.library.source()).exec_async(connection).await?;
        tracing::info!(digest = self.library.digest(), "function library loaded");
        Ok(true)
    }
}

impl RedisCommand for Cmd {
    async fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

impl RedisCommand for Pipeline {
    async fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

/// The call of a function, to be given its arguments.
#[must_use]
pub fn call(function: Function, keys: &[String]) -> Cmd {
    debug_assert_eq!(keys.len(), usize::from(function.keys), "{} has its keys", function.name);
    let mut call = cmd(function.command());
    call.arg(function.name).arg(keys.len()).arg(keys);
    call
}

/// Whether Redis does not know the function: it was restarted without its data, or is new.
fn is_missing(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

/// Whether Redis itself refused, and stays the one to ask.
fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(_) => !is_demoted(error),
        ErrorKind::Extension => true, // OOM, MISCONF and other codes that the client has no name for
        _ => false,
    }
}

/// What Redis said, in its own words: operators know its codes, and callers go by them.
fn error_text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => format!("{code} {error}"),
        (None, _) => error.to_string(),
    }
}

/// Whether it is a replica by now.
fn is_demoted(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
