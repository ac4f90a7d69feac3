//! The broker behind the router: it carries and keeps messages.
//!
//! A broker is polled: the pump awaits [`Broker::next_event`]. There are no callbacks.

pub(crate) mod memory;
pub(crate) mod redis;

use std::future::Future;

use bytes::Bytes;
use wire::{Position, Scope, Timestamp};

/// Carries messages between instances and keeps their history.
///
/// The contract, which `tests/broker_conformance.rs` checks for every broker:
///
/// - [`Event::Up`] comes first, and again after every interruption. At `Up` nothing is subscribed: the caller
///   subscribes again to the scopes that it needs. Between `Down` and `Up` commands are answered with errors; they are
///   not queued.
/// - [`Event::Subscribed`] confirms a subscription: every message that is published afterwards arrives, in order, or
///   `Down` arrives.
/// - Each [`Command::Subscribe`] is confirmed by one [`Event::Subscribed`], unless `Down` comes first. This also holds
///   for a scope that is already subscribed. A message that was published before arrives before the confirmation, or
///   never.
/// - A confirmed subscription may end with [`Event::Lost`] while the broker stays up. `Lost` does not affect subscribes
///   that are not confirmed yet: their confirmations still come.
/// - Storing and publishing are one step: a message that arrives can be read. Positions are consecutive within a
///   generation.
/// - Each command with a ticket is answered by exactly one event with that ticket.
pub trait Broker {
    /// Takes a command. It never blocks and never fails: failures are reported as events.
    fn command(&mut self, command: Command);

    /// Waits for the next event. If the future is dropped, no event is lost.
    fn next_event(&mut self) -> impl Future<Output = Event>;

    /// The next event if there is one, without waiting. The caller uses it to handle a burst as one batch.
    fn try_next_event(&mut self) -> Option<Event>;
}

/// The number of a command that is answered by an event. The caller chooses it; it is unique until the answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The commands that a broker takes.
#[derive(Debug)]
pub enum Command {
    /// Subscribes to this scope.
    Subscribe(Scope),
    /// Ends the subscription to this scope.
    Unsubscribe(Scope),
    /// Asks for the newest position of the scope, and for the messages that it keeps above `after`, oldest first.
    Read {
        /// Returned in the answer, [`Event::History`].
        ticket: Ticket,
        /// The scope to read.
        scope: Scope,
        /// Returns the entries after this position; without one, no entries.
        after: Option<Position>,
        /// Most entries in the answer.
        entries_max: usize,
    },
    /// Asks for the newest positions of many scopes. It is cheap, and does not begin a scope that does not exist.
    Tops {
        /// Returned in the answer, [`Event::Tops`].
        ticket: Ticket,
        /// The scopes, in the order of the positions in the answer.
        scopes: Vec<Scope>,
        /// Scopes that must not expire, however quiet they are: the index of each in `scopes`, and the time for which its
        /// metadata is kept from now on, in ms. Metadata that is kept for longer stays so.
        renew: Vec<(usize, u64)>,
    },
    /// Records that the message at this position was delivered and has been lost. From the answer on, histories show it
    /// ([`History::torn`]), so that every instance reports a gap to a client that resumes from before it.
    Lost {
        /// Returned in the answer, [`Event::LossNoted`].
        ticket: Ticket,
        /// The scope that lost messages.
        scope: Scope,
        /// The newest lost position.
        position: Position,
    },
    /// Stores and publishes messages in one step.
    Publish(Publish),
    /// Disconnects and connects again, for this reason. Messages that are under way are dropped. The broker reports
    /// [`Event::Down`] and, when it is back, [`Event::Up`]. A broker that is down does nothing: it is connecting
    /// already.
    Reset(String),
}

/// Messages of one scope to store and publish, all or none.
#[derive(Debug)]
pub struct Publish {
    /// Returned in the answer, [`Event::Published`].
    pub ticket: Ticket,
    /// The scope that orders the messages.
    pub scope: Scope,
    /// 1 to [`wire::BATCH_MESSAGES_MAX`] messages.
    pub messages: Vec<Draft>,
    /// Wait for a replica: the answer comes when a replica has the messages, or when none will confirm it in time.
    pub replicated: bool,
}

/// One message to store and publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Topic within the scope; may be empty.
    pub topic: Box<str>,
    /// The message as [`wire::MessageDraft::to_bytes`] writes it.
    pub message: Vec<u8>,
    /// The publisher's id of the message. A second message with the same id is not stored within a bounded time.
    pub id: Option<Box<str>>,
}

impl Draft {
    /// A message without an id.
    #[must_use]
    pub fn new(topic: impl Into<Box<str>>, message: Vec<u8>) -> Self {
        Self { topic: topic.into(), message, id: None }
    }
}

/// The result of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Position of the last message.
    pub position: Position,
    /// True if all messages had been published before under the same ids. Nothing was stored now.
    pub duplicate: bool,
    /// True if at least one replica has the messages.
    pub replicated: bool,
}

impl Stored {
    /// The result for new messages, of which the last one has this position. No replica has confirmed them.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { position, duplicate: false, replicated: false }
    }
}

/// The events that a broker reports.
#[derive(Debug)]
pub enum Event {
    /// The broker is connected and takes commands. Nothing is subscribed.
    Up,
    /// The broker is not connected, for this reason. Messages may be missed from now on.
    Down(String),
    /// The subscription to the scope is confirmed.
    Subscribed(Scope),
    /// The subscription to the scope has ended although the broker is up: its slot has moved, or its node is gone. The
    /// caller subscribes again if it still needs the scope.
    Lost(Scope),
    /// The messages of one publish call, on a scope that is subscribed or was until a moment ago.
    Message {
        /// Text of the scope, `tenant/family:id`, in UTF-8.
        scope: Bytes,
        /// The envelope, for [`wire::Envelope::parse`].
        envelope: Bytes,
    },
    /// The answer to [`Command::Read`].
    History {
        /// Ticket of the command.
        ticket: Ticket,
        /// The history of the scope, or the reason why it was not read.
        result: Result<History, BrokerError>,
    },
    /// The answer to [`Command::Tops`].
    Tops {
        /// Ticket of the command.
        ticket: Ticket,
        /// The newest positions, in the order of the scopes in the command. None for a scope that never began or was
        /// erased.
        result: Result<Vec<Option<Position>>, BrokerError>,
    },
    /// The answer to [`Command::Lost`].
    LossNoted {
        /// Ticket of the command.
        ticket: Ticket,
        /// `Ok` if the loss is recorded, or if there was nothing to record: the broker has the message, never had it,
        /// or knows no position before it.
        result: Result<(), BrokerError>,
    },
    /// The answer to [`Command::Publish`].
    Published {
        /// Ticket of the command.
        ticket: Ticket,
        /// The position of the last message, or the reason of the failure.
        result: Result<Stored, BrokerError>,
    },
}

/// What the broker keeps of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The newest position that was given out, whether its message is kept or not. An unused scope begins its first
    /// generation when it is read.
    pub top: Position,
    /// The earlier generations that are still known, oldest first, each with the newest offset that is known of it.
    pub earlier: Vec<(u64, u64)>,
    /// The earlier generations that gave out more positions than that: these messages were delivered and then lost.
    pub torn: Vec<u64>,
    /// The kept messages after the requested position, oldest first.
    pub entries: Vec<Entry>,
    /// True if there are more messages after the last entry.
    pub more: bool,
}

/// One kept message of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position of the message in its scope.
    pub position: Position,
    /// Time of storing by the broker's clock.
    pub time: Timestamp,
    /// Topic within the scope.
    pub topic: Box<str>,
    /// The message, for [`wire::Message::parse`].
    pub message: Bytes,
}

/// The reason why a command with a ticket failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The command was not carried out and may be tried again.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The answer did not come in time: the command may or may not have been carried out.
    #[error("the broker did not answer in time")]
    Unknown,
    /// The command was not carried out, and a retry cannot help: the call itself is wrong. This is an error of the
    /// gateway.
    #[error("the broker refused the call: {0}")]
    Wrong(String),
}
