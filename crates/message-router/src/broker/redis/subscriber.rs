//! The RESP3 connection for pub/sub: one socket, read by the task that awaits the broker.
//!
//! There is no task and no channel between the socket and the caller. Bytes are read into one buffer, and messages are
//! slices of it. Changes of subscriptions are gathered and written in as few commands as possible.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use keyspace::Keyspace;
use redis_topology::{Node, RedisSocket};
use tokio::io::Interest;
use wire::Scope;

use super::resp::{BadResp, Decoder, PushFrame};
use super::sharded_commands::{Misrouted, ShardedCommands};

/// Room for one read, in bytes. In a burst of small messages one system call then reads several hundred.
const READ_BYTES: usize = 64 * 1024;
/// Most channels that one SUBSCRIBE names: a command of about 30 KiB, so that Redis serves other clients in between.
const CHANNELS_PER_COMMAND_MAX: usize = 512;

/// Why a subscriber must end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error("the subscriber's connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Resp(#[from] BadResp),
    #[error("Redis refused a subscription: {0}")]
    Refused(String),
    #[error("Redis ended a subscription nobody gave up")]
    Unasked,
    #[error("the slot of the probe's channel has moved")]
    ProbeMoved,
}

/// A change of a subscription that has not been written.
#[derive(Debug)]
struct SubscriptionChange {
    scope: Scope,
    wanted: bool,
}

/// What was received, after the subscriber has updated its own state.
#[derive(Debug)]
pub(super) enum SubscriberEvent {
    Message {
        channel: Bytes,
        payload: Bytes,
    },
    Subscribed(Scope),
    /// The slot of this scope, given as text, has moved to another node.
    Ended(Bytes),
    /// Scopes that are not subscribed, because their slot had moved before.
    Misrouted(Misrouted),
}

#[derive(Debug)]
pub(super) struct Subscriber {
    stream: RedisSocket,
    decoder: Decoder,
    /// Encoded and not yet written. Bounded by the number of scopes that the router wants.
    out: BytesMut,
    /// TLS has written everything that it has taken.
    is_flushed: bool,
    changes: Vec<SubscriptionChange>,
    asked: PendingCommands,
}

/// Commands without an answer.
#[derive(Debug)]
enum PendingCommands {
    /// At a single primary, which answers commands in order and refuses none.
    Plain {
        /// Scopes whose confirmation is expected, in the order of the commands.
        confirming: VecDeque<Scope>,
        /// Number of UNSUBSCRIBE confirmations that are expected.
        leaving: usize,
    },
    /// At a node of a cluster.
    Sharded(Node, ShardedCommands),
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(stream: RedisSocket) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            out: BytesMut::new(),
            is_flushed: true,
            changes: Vec::new(),
            asked: PendingCommands::Plain { confirming: VecDeque::new(), leaving: 0 },
        }
    }

    /// Switches to sharded pub/sub, at a node of a cluster.
    pub(super) fn shard(&mut self, node: Node) {
        self.asked = PendingCommands::Sharded(node, ShardedCommands::default());
    }

    /// Sends one command and waits for the first thing received. Used during the setup, before any scope is
    /// subscribed.
    pub(super) async fn ask(&mut self, args: &[&str]) -> Result<PushFrame, SubscriberError> {
        encode(&mut self.out, args.len(), args.iter().copied());
        self.receive().await
    }

    /// Waits for the next thing received.
    pub(super) async fn receive(&mut self) -> Result<PushFrame, SubscriberError> {
        loop {
            if let Some(received) = self.decoder.next()? {
                return Ok(received);
            }
            self.flush()?;
            // TLS may hold bytes that it has read already.
            if !self.fill()? {
                self.ready().await?;
            }
        }
    }

    pub(super) fn subscribe(&mut self, scope: Scope) {
        self.changes.push(SubscriptionChange { scope, wanted: true });
    }

    pub(super) fn unsubscribe(&mut self, scope: Scope) {
        self.changes.push(SubscriptionChange { scope, wanted: false });
    }

    /// Writes the changes since the last call, as far as the socket takes them.
    pub(super) fn send_changes(&mut self, keyspace: &Keyspace) -> Result<(), SubscriberError> {
        if !self.changes.is_empty() {
            self.encode_changes(keyspace);
        }
        if self.out.is_empty() && self.is_flushed { Ok(()) } else { self.flush() }
    }

    /// Takes the next event from the buffer. Nothing means that more bytes must be read first.
    pub(super) fn next(&mut self, keyspace: &Keyspace) -> Result<Option<SubscriberEvent>, SubscriberError> {
        loop {
            let event = match self.decoder.next()? {
                None => return Ok(None),
                Some(PushFrame::Message { channel, payload }) => {
                    return Ok(Some(SubscriberEvent::Message { channel, payload }));
                }
                Some(PushFrame::TooLong { channel, bytes }) => {
                    let channel = String::from_utf8_lossy(&channel);
                    tracing::warn!(%channel, bytes, "message dropped: another program has published on the channel");
                    None
                }
                Some(PushFrame::Subscribed { channel }) => Some(self.subscribed(&channel, keyspace)?),
                Some(PushFrame::Unsubscribed { channel }) => self.unsubscribed(channel, keyspace)?,
                Some(PushFrame::Refused(text)) => self.refused(text)?,
                // No other command is sent. Pushes of other kinds that a newer Redis may send are ignored.
                Some(PushFrame::Other(_)) => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn subscribed(&mut self, channel: &[u8], keyspace: &Keyspace) -> Result<SubscriberEvent, SubscriberError> {
        let scope = match &mut self.asked {
            PendingCommands::Plain { confirming, .. } => confirming.pop_front(),
            PendingCommands::Sharded(_, asked) => {
                keyspace.scope_of_channel(channel).and_then(|scope| asked.subscribed(scope))
            }
        };
        scope.map(SubscriberEvent::Subscribed).ok_or(SubscriberError::Unasked)
    }

    fn unsubscribed(
        &mut self,
        channel: Bytes,
        keyspace: &Keyspace,
    ) -> Result<Option<SubscriberEvent>, SubscriberError> {
        match &mut self.asked {
            PendingCommands::Plain { leaving, .. } => {
                *leaving = leaving.checked_sub(1).ok_or(SubscriberError::Unasked)?;
                Ok(None)
            }
            PendingCommands::Sharded(_, asked) => {
                let scope = keyspace.scope_of_channel(&channel).ok_or(SubscriberError::ProbeMoved)?;
                let text = channel.slice_ref(scope.as_bytes());
                Ok(asked.unsubscribed(scope, text).map(SubscriberEvent::Ended))
            }
        }
    }

    fn refused(&mut self, text: String) -> Result<Option<SubscriberEvent>, SubscriberError> {
        let misrouted = match &mut self.asked {
            PendingCommands::Plain { .. } => Err(()),
            PendingCommands::Sharded(node, asked) => asked.refused(&text, node),
        };
        misrouted
            .map(|misrouted| misrouted.map(SubscriberEvent::Misrouted))
            .map_err(|()| SubscriberError::Refused(text))
    }

    /// Whether the bytes of a message that is dropped are arriving.
    pub(super) fn is_dropping(&self) -> bool {
        self.decoder.is_dropping()
    }

    /// Reads once without waiting. Returns true if bytes were read.
    pub(super) fn fill(&mut self) -> Result<bool, SubscriberError> {
        // Reserving costs nothing while there is room. Otherwise it reuses the old block if no slice of it is held any
        // more, and allocates a new one if there is.
        if self.decoder.buffer.capacity() - self.decoder.buffer.len() < READ_BYTES / 8 {
            self.decoder.buffer.reserve(READ_BYTES);
        }
        match self.stream.try_read_buf(&mut self.decoder.buffer) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed it").into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until bytes can be read, or until there is room for bytes that must still be written.
    pub(super) async fn ready(&self) -> Result<(), SubscriberError> {
        let is_done = self.out.is_empty() && self.is_flushed;
        let interest = if is_done { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        Ok(self.stream.ready(interest).await?)
    }

    fn flush(&mut self) -> Result<(), SubscriberError> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => drop(self.out.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.is_flushed = self.stream.try_flush()?;
        Ok(())
    }

    /// Neighbouring changes of one kind become one command. The order between subscribes and unsubscribes stays.
    fn encode_changes(&mut self, keyspace: &Keyspace) {
        let mut changes = std::mem::take(&mut self.changes);
        match &mut self.asked {
            PendingCommands::Plain { confirming, leaving } => {
                for run in changes.chunk_by(|a, b| a.wanted == b.wanted) {
                    let command = if run[0].wanted { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
                    run.chunks(CHANNELS_PER_COMMAND_MAX)
                        .for_each(|run| encode_run(&mut self.out, command, run, keyspace));
                }
                for SubscriptionChange { scope, wanted } in changes.drain(..) {
                    if wanted {
                        confirming.push_back(scope);
                    } else {
                        *leaving += 1;
                    }
                }
            }
            PendingCommands::Sharded(_, asked) => {
                for run in changes.chunk_by_mut(|a, b| a.wanted == b.wanted) {
                    let (wanted, command) = (run[0].wanted, if run[0].wanted { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" });
                    // A command may name channels of one slot only.
                    run.sort_by_cached_key(|change| keyspace.slot(&change.scope));
                    for run in run.chunk_by(|a, b| keyspace.slot(&a.scope) == keyspace.slot(&b.scope)) {
                        encode_run(&mut self.out, command, run, keyspace);
                        let scopes = run.iter().map(|change| change.scope.clone()).collect();
                        asked.ask(keyspace.slot(&run[0].scope), wanted, scopes);
                    }
                }
                changes.clear();
            }
        }
        self.changes = changes;
    }
}

fn encode_run(out: &mut BytesMut, command: &str, run: &[SubscriptionChange], keyspace: &Keyspace) {
    let channels = run.iter().map(|change| keyspace.channel(&change.scope));
    encode(out, 1 + run.len(), std::iter::once(command.to_owned()).chain(channels));
}

/// Writes a command of `count` words.
fn encode(out: &mut BytesMut, count: usize, words: impl Iterator<Item: AsRef<str>>) {
    out.extend_from_slice(format!("*{count}\r\n").as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
