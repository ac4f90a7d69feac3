//! Makes calls on connections of the [`Pools`]. Each call has one deadline for everything it does: it loads the function
//! library where it is missing, and follows the redirections of a cluster.

use std::future::Future;
use std::time::Duration;

use keyspace::{Function, Placed, PublishCall, PublishItem, Slot};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, cmd};
use tokio::time::{Instant, timeout_at};

use crate::command_error::{CommandError, ErrorReply};
use crate::library_loader::LibraryLoader;
use crate::node::Node;
use crate::pools::Pools;
use crate::publish::{publish_command, read_placed};
use crate::redirection::Redirection;

/// Makes the calls of the registry, the records and the CLI. Clones share the connections.
#[derive(Debug, Clone)]
pub struct CommandClient {
    pools: Pools,
    library: LibraryLoader,
    deadline: Duration,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// There is no connection. Nothing was done.
    Unreachable(String),
    /// There was no answer in time, or the connection broke. The call may or may not have been carried out.
    NoAnswer(Duration),
    /// Redis answered with this error, its code first. Nothing was done, unless a function failed half-way.
    Rejected(String),
    /// The answer does not have the expected form. The call may have been carried out.
    Malformed(String),
}

/// A command, or several in one pipeline. Sending it again does no harm.
pub trait RedisCommand: Sync {
    /// Sends the command once and converts its answer.
    fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<T>> + Send;
}

/// Where the next attempt goes.
enum Destination {
    /// To the server that has the slot.
    Owner,
    /// To the server that `MOVED` named.
    Moved(Node),
    /// To the server that `ASK` named, with `ASKING` before the command.
    Asking(Node),
}

/// A command with `ASKING` before it.
struct Asking<'c>(&'c Cmd);

impl CommandClient {
    /// A client on these pools. `deadline` is the longest time for a whole call.
    #[must_use]
    pub fn new(pools: Pools, library: LibraryLoader, deadline: Duration) -> Self {
        Self { pools, library, deadline }
    }

    /// The pools of connections, for metrics.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Sends a command to the server that has a slot.
    ///
    /// While a cluster moves the slot, the call waits for the end of the move and does not follow `ASK`: functions may use
    /// keys that they do not declare, and those may still be missing on the new server.
    ///
    /// # Errors
    /// If there is no answer in time, or the answer is an error or of another form.
    pub async fn ask<T: FromRedisValue>(&self, slot: Slot, command: &impl RedisCommand) -> Result<T, CallError> {
        let deadline = Instant::now() + self.deadline;
        let mut destination = Destination::Owner;
        loop {
            destination = match self.attempt(slot, &destination, command, deadline).await? {
                Ok(answer) => return Ok(answer),
                Err(Redirection::Moved(_, to)) => Destination::Moved(to),
                Err(Redirection::Ask(_) | Redirection::Later) => Destination::Owner,
            };
        }
    }

    /// Publishes messages of one scope, whose slot this is: all of them or none. A publishing call declares all its keys, so
    /// it follows `ASK` while a cluster moves the slot.
    ///
    /// # Errors
    /// If there is no answer in time, or the answer is an error or of another form.
    pub async fn publish<'m>(
        &self,
        slot: Slot,
        call: &PublishCall,
        items: impl ExactSizeIterator<Item = PublishItem<'m>>,
    ) -> Result<Vec<Placed>, CallError> {
        let deadline = Instant::now() + self.deadline;
        let count = items.len();
        let command = publish_command(call, items);
        let mut destination = Destination::Owner;
        let answer: Value = loop {
            let attempt = match &destination {
                Destination::Asking(_) => self.attempt(slot, &destination, &Asking(&command), deadline).await?,
                Destination::Owner | Destination::Moved(_) => {
                    self.attempt(slot, &destination, &command, deadline).await?
                }
            };
            destination = match attempt {
                Ok(answer) => break answer,
                Err(Redirection::Moved(_, to)) => Destination::Moved(to),
                Err(Redirection::Ask(to)) => Destination::Asking(to),
                Err(Redirection::Later) => Destination::Owner,
            };
        };
        let malformed = || CallError::Malformed(format!("a publish was answered by {answer:?}"));
        read_placed(call, count, &answer).ok_or_else(malformed)
    }

    /// Makes one attempt. Returns the answer, or the redirection for the next attempt after a short wait.
    async fn attempt<T: FromRedisValue>(
        &self,
        slot: Slot,
        destination: &Destination,
        command: &impl RedisCommand,
        deadline: Instant,
    ) -> Result<Result<T, Redirection>, CallError> {
        let connection = match destination {
            Destination::Owner => self.pools.connection(slot, deadline).await,
            Destination::Moved(node) | Destination::Asking(node) => self.pools.connection_to(node, deadline).await,
        };
        let mut connection = connection.map_err(|error| CallError::Unreachable(error.to_string()))?;
        let answer = timeout_at(deadline, self.ask_once(&mut connection, command)).await;
        let error = match answer.unwrap_or(Err(CommandError::Late)) {
            Ok(answer) => {
                self.pools.answered(connection.node());
                return Ok(Ok(answer));
            }
            Err(error) => error,
        };
        if let Some(redirection) = Redirection::of(&error, connection.node(), deadline) {
            self.pools.answered(connection.node());
            return Ok(Err(self.pools.redirected(connection, redirection).await));
        }
        // A demoted primary must not be asked again.
        let is_demoted = error.reply().is_some_and(ErrorReply::is_demoted);
        match is_demoted || matches!(error, CommandError::Late | CommandError::Broken(_)) {
            true => self.pools.failed(&connection.discard(), &error.to_string()),
            false => self.pools.answered(connection.node()),
        }
        Err(match error {
            CommandError::Refused(text) => CallError::Rejected(text),
            CommandError::Malformed(what) => CallError::Malformed(what),
            CommandError::Late | CommandError::Broken(_) => CallError::NoAnswer(self.deadline),
        })
    }

    async fn ask_once<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        command: &impl RedisCommand,
    ) -> Result<T, CommandError> {
        match command.ask(connection).await.map_err(CommandError::from) {
            Err(error) if error.is_function_missing() => match self.library.load(connection).await? {
                true => Ok(command.ask(connection).await?),
                false => Err(error),
            },
            answer => answer,
        }
    }
}

impl RedisCommand for Cmd {
    async fn ask<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

impl RedisCommand for Pipeline {
    async fn ask<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

impl RedisCommand for Asking<'_> {
    async fn ask<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        let mut both = redis::pipe();
        both.cmd("ASKING").ignore().add_command(self.0.clone());
        both.query_async::<(T,)>(connection).await.map(|(answer,)| answer)
    }
}

/// The call of a function with these keys; the caller adds the arguments.
#[must_use]
pub fn call(function: Function, keys: &[String]) -> Cmd {
    debug_assert_eq!(keys.len(), usize::from(function.keys), "{} has its keys", function.name);
    let mut call = cmd(function.command());
    call.arg(function.name).arg(keys.len()).arg(keys);
    call
}
