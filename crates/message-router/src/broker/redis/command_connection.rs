//! The broker's connection for commands: builds each call and reads its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyspace::{Function, Keyspace, Placed, PublishCall, PublishItem};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use redis_topology::{CommandError, ErrorReply, LibraryLoader, SendCommand, publish_command, read_placed};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::{Position, Scope, Timestamp};

use crate::broker::{BrokerError, Draft, Entry, History};

/// The broker's connection for commands. It calls functions of the library, and loads the library when Redis has lost
/// it. A handle: clones share one connection, on which any number of calls run at once.
///
/// Calls of the registry and the records use [`redis_topology::CommandClient`], which takes one pooled connection for
/// each call. Calls of the broker must not wait for a free connection or for each other, and their connection ends
/// together with the subscriber's.
#[derive(Debug, Clone)]
pub(super) struct CommandConnection {
    connection: MultiplexedConnection,
    library: LibraryLoader,
    /// Held while the library is loaded: if a thousand calls find it missing, it is loaded once.
    loading: Arc<Mutex<()>>,
    deadline: Duration,
    /// Time between two probes.
    probe_interval_ms: u64,
    /// Whether ASKING precedes each command, because the slot is moving to this node.
    asking: bool,
}

// === impl CommandConnection ===

impl CommandConnection {
    pub(super) fn new(
        connection: MultiplexedConnection,
        library: LibraryLoader,
        deadline: Duration,
        probe_interval_ms: u64,
    ) -> Self {
        Self { connection, library, loading: Arc::default(), deadline, probe_interval_ms, asking: false }
    }

    /// The same connection, for keys whose slot is moving to its node.
    pub(super) fn asking(self) -> Self {
        Self { asking: true, ..self }
    }

    /// Stores and publishes messages of one scope. Returns the position of each, and whether its id was known.
    pub(super) async fn publish(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        messages: &[Draft],
    ) -> Result<Vec<Placed>, CommandError> {
        let call = PublishCall::new(keyspace, scope, messages.iter().any(|draft| draft.id.is_some()));
        let items =
            messages.iter().map(|Draft { topic, message, id }| PublishItem { topic, message, id: id.as_deref() });
        let answer = self.call(&publish_command(&call, items)).await?;
        read_placed(&call, messages.len(), &answer).ok_or_else(|| malformed("no positions of these messages"))
    }

    /// Reads the position and the history of a scope. A scope without a generation gets its first one, so that later
    /// messages follow a known position.
    pub(super) async fn read(
        self,
        keyspace: &Keyspace,
        scope: &Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Result<History, CommandError> {
        let after = after.map(|position| position.to_string()).unwrap_or_default();
        let command = |function| {
            let mut command = scoped(function, keyspace, scope);
            command.arg(&after).arg(entries_max);
            command
        };
        // A scope without a message expires soon, and this one is needed. It takes no round trip of its own; if it is
        // refused, a comparison of positions renews the scope.
        let (read, renewal) = (command(Function::READ), keep(keyspace, scope, Keyspace::UNUSED_KEPT_MS));
        let (answer, _) = tokio::join!(self.call(&read), self.send(&renewal));
        match answer? {
            Value::Nil => history(self.call(&command(Function::OPEN)).await?),
            begun => history(begun),
        }
    }

    /// Marks the position of a message that Redis has lost.
    pub(super) async fn lost(self, keyspace: &Keyspace, scope: &Scope, gone: Position) -> Result<(), CommandError> {
        let mut command = scoped(Function::LOST, keyspace, scope);
        command.arg(gone.to_string());
        self.call(&command).await.map(drop)
    }

    /// Reads the newest position of each of these scopes, in one round of plain commands: a function call costs Redis
    /// several times more. The metadata of the scopes in `renew` is kept for longer.
    pub(super) async fn tops(
        self,
        keyspace: &Keyspace,
        scopes: &[Scope],
        renew: &[(usize, u64)],
    ) -> Result<Vec<Option<Position>>, CommandError> {
        if scopes.is_empty() {
            return Ok(Vec::new());
        }
        let count = scopes.len() + renew.len();
        let mut pipeline = redis::Pipeline::with_capacity(count);
        for scope in scopes {
            pipeline.cmd("HMGET").arg(keyspace.meta(scope)).arg(&Keyspace::TOP_FIELDS);
        }
        for (index, kept_ms) in renew {
            pipeline.add_command(keep(keyspace, &scopes[*index], *kept_ms));
        }
        let mut connection = self.connection.clone();
        let answers = timeout(self.deadline, connection.send_packed_commands(&pipeline, 0, count));
        let answers = answers.await.map_err(|_| CommandError::Late)??;
        // A PEXPIRE may be refused where Redis accepts no writes; a later round repeats it.
        answers.into_iter().take(scopes.len()).map(top).collect()
    }

    /// Sends a text to the instance's own probe channel, and loads the library if another one with a lower precedence, or
    /// one that no living instance has, is loaded.
    pub(super) async fn probe(self, channel: &str, word: &str) -> Result<(), CommandError> {
        let mut command = function(Function::PROBE);
        let library = self.library.library();
        command.arg(channel).arg(word);
        command.arg(library.digest()).arg(library.precedence()).arg(self.probe_interval_ms);
        if let Value::Array(answer) = self.call(&command).await?
            && let [_, Value::Int(1)] = answer[..]
        {
            let _loading = self.loading.lock().await;
            tracing::info!(digest = library.digest(), "function library of other families replaced");
            self.library.replace(&mut self.clone()).await?;
        }
        Ok(())
    }

    /// Loads this library, unless Redis has it or a newer one.
    pub(super) async fn load_library(&self) -> Result<(), CommandError> {
        let _loading = self.loading.lock().await;
        self.library.load(&mut self.clone()).await.map(drop)
    }

    /// Sends any command, within the deadline.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, CommandError> {
        let mut connection = self.connection.clone();
        if self.asking {
            let mut both = redis::pipe();
            both.cmd("ASKING").add_command(command.clone());
            let answers = timeout(self.deadline, connection.send_packed_commands(&both, 1, 1)).await;
            return match answers.map_err(|_| CommandError::Late)??.pop() {
                Some(Value::ServerError(error)) => Err(RedisError::from(error).into()),
                answer => answer.ok_or_else(|| malformed("none")),
            };
        }
        match timeout(self.deadline, connection.send_packed_command(command)).await {
            Err(_) => Err(CommandError::Late),
            Ok(Ok(Value::ServerError(error))) => Err(RedisError::from(error).into()),
            Ok(answer) => Ok(answer?),
        }
    }

    /// Calls once, and a second time if the library was missing (after FUNCTION FLUSH, or a restart without
    /// persistence).
    async fn call(&self, command: &Cmd) -> Result<Value, CommandError> {
        match self.send(command).await {
            Err(error) if error.reply().is_some_and(ErrorReply::is_function_missing) => {
                self.load_library().await?;
                self.send(command).await
            }
            answer => answer,
        }
    }
}

impl SendCommand for CommandConnection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, CommandError> {
        CommandConnection::send(self, command).await
    }
}

/// Keeps the metadata of a scope for this time, or for as long as it is kept already.
fn keep(keyspace: &Keyspace, scope: &Scope, kept_ms: u64) -> Cmd {
    let mut command = redis::cmd("PEXPIRE");
    command.arg(keyspace.meta(scope)).arg(kept_ms).arg("GT");
    command
}

/// What a failed publish means for its publisher.
pub(super) fn publish_error(error: CommandError) -> BrokerError {
    match error {
        CommandError::Refused(text) if ErrorReply(&text).is_half_way() => BrokerError::Unknown,
        CommandError::Refused(text) if ErrorReply(&text).is_passing() => BrokerError::Unavailable(text),
        // The gateway has checked the family: the library of instances with other families is loaded, for a while.
        CommandError::Refused(text) if text.starts_with(keyspace::UNKNOWN_FAMILY) => BrokerError::Unavailable(text),
        CommandError::Refused(text) => BrokerError::Wrong(text),
        CommandError::Late | CommandError::Broken(_) | CommandError::Malformed(_) => BrokerError::Unknown,
    }
}

/// Whether this connection must end: it is broken, or its Redis is not the primary any more.
pub(super) fn ends_connection(error: &CommandError) -> bool {
    match error {
        CommandError::Refused(text) => ErrorReply(text).is_demoted(),
        // An answer of another form is one command's: another program may have written into the key.
        CommandError::Late | CommandError::Malformed(_) => false,
        CommandError::Broken(_) => true,
    }
}

fn malformed(what: &str) -> CommandError {
    CommandError::Malformed(what.to_owned())
}

fn function(function: Function) -> Cmd {
    let mut command = redis::cmd(function.command());
    command.arg(function.name).arg(function.keys);
    command
}

fn scoped(called: Function, keyspace: &Keyspace, scope: &Scope) -> Cmd {
    debug_assert!(called.keys >= 2, "a scope has a stream and metadata");
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

fn position(value: &Value) -> Result<Position, CommandError> {
    text(value).and_then(|text| text.parse().ok()).ok_or_else(|| malformed("no position"))
}

/// Reads `{ generation, offset }`; both are nil for a scope that has not begun.
fn top(value: Value) -> Result<Option<Position>, CommandError> {
    let parts = match value {
        Value::Array(parts) => parts,
        // Another program uses the key. A read of this scope reports that; the other scopes are not held up.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => return Ok(None),
        Value::ServerError(error) => return Err(RedisError::from(error).into()),
        _ => return Err(malformed("no pair")),
    };
    match parts.as_slice() {
        [Value::Nil, Value::Nil] => Ok(None),
        [generation, offset] => {
            // Another program may have written into the hash. A read of this scope reports that.
            let number = |value| text(value).and_then(|text| text.parse().ok());
            Ok(number(generation).zip(number(offset)).map(|(generation, offset)| Position::new(generation, offset)))
        }
        _ => Err(malformed("not two parts")),
    }
}

/// Reads `{ top, { earlier }, { { position, time, topic, message } }, more }`.
fn history(value: Value) -> Result<History, CommandError> {
    let Value::Array(parts) = value else { return Err(malformed("no list")) };
    let [top, Value::Array(earlier), Value::Array(entries), Value::Int(more)] =
        <[Value; 4]>::try_from(parts).map_err(|_| malformed("not four parts"))?
    else {
        return Err(malformed("parts of other types"));
    };
    let (mut known, mut torn) = (Vec::with_capacity(earlier.len()), Vec::new());
    for end in earlier {
        let (Position { generation, offset }, is_torn) = end_of_generation(&end)?;
        known.push((generation, offset));
        torn.extend(is_torn.then_some(generation));
    }
    Ok(History {
        top: position(&top)?,
        earlier: known,
        torn,
        // An entry of another program is none. What it displaced is missing, and becomes a gap.
        entries: entries.into_iter().filter_map(|value| entry(value).ok()).collect(),
        more: more != 0,
    })
}

/// Reads `generation-top`, with a `+` where messages above the top were lost.
fn end_of_generation(value: &Value) -> Result<(Position, bool), CommandError> {
    let end = text(value).ok_or_else(|| malformed("no generation"))?;
    let (position, is_torn) = end.strip_suffix('+').map_or((end, false), |position| (position, true));
    Ok((position.parse().map_err(|_| malformed("no generation"))?, is_torn))
}

fn entry(value: Value) -> Result<Entry, CommandError> {
    let Value::Array(parts) = value else { return Err(malformed("no entry")) };
    let [id, time, topic, Value::BulkString(message)] =
        <[Value; 4]>::try_from(parts).map_err(|_| malformed("an entry of other than four parts"))?
    else {
        return Err(malformed("an entry without message"));
    };
    let time = text(&time).and_then(|text| text.parse().ok()).ok_or_else(|| malformed("no time"))?;
    let topic = text(&topic).ok_or_else(|| malformed("no topic"))?;
    Ok(Entry { position: position(&id)?, time: Timestamp(time), topic: topic.into(), message: Bytes::from(message) })
}
