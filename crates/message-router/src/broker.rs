//! What lies behind the router: something that carries and keeps messages.
//!
//! A broker is pulled, never registered: the pump awaits [`Broker::next_event`], and nothing calls back.

pub(crate) mod memory;
pub(crate) mod redis;

use std::future::Future;

use bytes::Bytes;
use wire::{Position, Scope, Timestamp};

/// Carries messages between instances and keeps their history.
///
/// Contract, checked for every broker by `tests/broker_conformance.rs`:
///
/// - [`Event::Up`] comes first, and again after every interruption. At `Up` nothing is subscribed: the caller
///   asks again for what it wants. Between `Down` and `Up` commands are answered with errors, not kept.
/// - [`Event::Subscribed`] means confirmed: every message published afterwards arrives, in order, or `Down` does.
/// - Each [`Command::Subscribe`] is confirmed by one [`Event::Subscribed`], unless `Down` comes before it; also that of
///   a scope which is subscribed already. What was published before is heard before its confirmation, or never.
/// - A confirmed subscription may end by [`Event::Lost`] while the broker stays up. It says nothing of subscribes that
///   have not been confirmed: they are still going to be.
/// - Storing and publishing are one step: a message that arrives can be read, and positions are consecutive
///   within a generation.
/// - Each ticketed command is answered by exactly one event with its ticket.
pub trait Broker {
    /// Takes a command. Never blocks, never fails: failures come back as events.
    fn command(&mut self, command: Command);

    /// The next event. Dropping the future loses nothing.
    fn next_event(&mut self) -> impl Future<Output = Event>;

    /// The next event if one is at hand, without waiting: so that a burst is handled as one batch.
    fn try_next_event(&mut self) -> Option<Event>;
}

/// Names a question so that its answer can be told from others. Chosen by the caller, unique while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What the router asks of a broker.
#[derive(Debug)]
pub enum Command {
    /// Hear this scope from now on.
    Subscribe(Scope),
    /// Stop hearing it.
    Unsubscribe(Scope),
    /// Where the scope stands, and what it keeps behind `after`, oldest first.
    Read {
        /// For the answer.
        ticket: Ticket,
        /// Of which scope.
        scope: Scope,
        /// Entries behind this position; without one, no entries.
        after: Option<Position>,
        /// At most so many entries in one answer.
        entries_max: usize,
    },
    /// The newest positions of many scopes, and nothing else of them: cheap, and begins nothing. What is asked for
    /// again and again is not forgotten, however quiet it is.
    Tops {
        /// For the answer.
        ticket: Ticket,
        /// Of which scopes.
        scopes: Vec<Scope>,
    },
    /// The message at this position was handed on and is gone: whoever comes back from before it is to be told, by any
    /// instance. From the answer on, histories say so ([`History::torn`]).
    Lost {
        /// For the answer.
        ticket: Ticket,
        /// Of which scope.
        scope: Scope,
        /// The newest one that is gone.
        position: Position,
    },
    /// Store and publish, as one step.
    Publish(Publish),
    /// Begin anew, for this reason: drop whatever is on its way from the broker unheard, and tell [`Event::Down`] and,
    /// when it is back, [`Event::Up`]. A broker that is down is doing so already.
    Reset(String),
}

/// Messages of one scope to be stored and published, all or none.
#[derive(Debug)]
pub struct Publish {
    /// For the answer.
    pub ticket: Ticket,
    /// Where they are ordered.
    pub scope: Scope,
    /// At most [`wire::BATCH_MESSAGES_MAX`].
    pub messages: Vec<Draft>,
    /// Answer when a replica has it too, or when it is plain that none will say so in time.
    pub replicated: bool,
}

/// One message to be stored and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Within the scope.
    pub topic: Box<str>,
    /// As [`wire::MessageDraft::to_bytes`] gives it.
    pub message: Vec<u8>,
    /// The publisher's own name for it: within a bounded time a second one of this name is not stored.
    pub id: Option<Box<str>>,
}

impl Draft {
    /// A message without an id.
    #[must_use]
    pub fn new(topic: impl Into<Box<str>>, message: Vec<u8>) -> Self {
        Self { topic: topic.into(), message, id: None }
    }
}

/// What is true of messages that were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Where the last of them stands.
    pub position: Position,
    /// All of them had been published before, under the same ids: nothing was stored now.
    pub duplicate: bool,
    /// At least one replica has it.
    pub replicated: bool,
}

impl Stored {
    /// A new message that is where it is.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { position, duplicate: false, replicated: false }
    }
}

/// What a broker tells.
#[derive(Debug)]
pub enum Event {
    /// The way there and back works. Nothing is subscribed.
    Up,
    /// It does not, for this reason. Messages may be missed from now on.
    Down(String),
    /// The scope is heard from now on.
    Subscribed(Scope),
    /// The scope is not heard any more, though the broker is up: its slot has moved, or its node is gone. The caller
    /// asks again for what it still wants.
    Lost(Scope),
    /// One publish call on a scope that is, or just was, subscribed.
    Message {
        /// The scope's text, `tenant/family:id`, UTF-8.
        scope: Bytes,
        /// To be read by [`wire::Envelope::parse`].
        envelope: Bytes,
    },
    /// The answer to [`Command::Read`].
    History {
        /// Of the question.
        ticket: Ticket,
        /// What the scope keeps.
        result: Result<History, BrokerError>,
    },
    /// The answer to [`Command::Tops`].
    Tops {
        /// Of the question.
        ticket: Ticket,
        /// In the order asked; none for a scope of which nothing is known, as it never began or has been erased.
        result: Result<Vec<Option<Position>>, BrokerError>,
    },
    /// The answer to [`Command::Lost`].
    LossNoted {
        /// Of the question.
        ticket: Ticket,
        /// Done, or there was nothing to note: the broker has it, or never had, or knows no position from before it.
        result: Result<(), BrokerError>,
    },
    /// The answer to [`Command::Publish`].
    Published {
        /// Of the question.
        ticket: Ticket,
        /// What is true of them.
        result: Result<Stored, BrokerError>,
    },
}

/// What a scope keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The newest position handed out, kept or not. Never absent: an unused scope begins its first generation.
    pub top: Position,
    /// Earlier generations still known, oldest first: their number and the newest offset each handed out.
    pub earlier: Vec<(u64, u64)>,
    /// Those of them that handed out more, which was lost after somebody had been handed it.
    pub torn: Vec<u64>,
    /// What is kept behind the position asked for, oldest first.
    pub entries: Vec<Entry>,
    /// Whether there is more behind the last entry.
    pub more: bool,
}

/// One kept message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When it was stored, by the broker's clock.
    pub time: Timestamp,
    /// Its topic within the scope.
    pub topic: Box<str>,
    /// To be read by [`wire::Message::parse`].
    pub message: Bytes,
}

/// Why a ticketed command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It was not carried out and may be tried again.
    #[error("the broker cannot take it now: {0}")]
    Unavailable(String),
    /// Nobody knows whether it was carried out: the answer did not come in time.
    #[error("the broker did not answer in time")]
    Unknown,
    /// It was not carried out, and will not be: the call itself is wrong, which is nobody's fault but ours.
    #[error("the broker finds the call wrong: {0}")]
    Wrong(String),
}
