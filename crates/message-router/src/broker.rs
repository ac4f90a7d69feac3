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
    /// Store and publish, as one step.
    Publish(Publish),
}

/// Messages of one scope to be stored and published, all or none.
#[derive(Debug)]
pub struct Publish {
    /// For the answer.
    pub ticket: Ticket,
    /// Where they are ordered.
    pub scope: Scope,
    /// Topic and bytes (see [`wire::MessageDraft::to_bytes`]), at most [`wire::BATCH_MESSAGES_MAX`].
    pub messages: Vec<(Box<str>, Vec<u8>)>,
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
    /// The answer to [`Command::Publish`].
    Published {
        /// Of the question.
        ticket: Ticket,
        /// Where the last of the messages stands.
        result: Result<Position, BrokerError>,
    },
}

/// What a scope keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The newest position handed out, kept or not. Never absent: an unused scope begins its first generation.
    pub top: Position,
    /// Earlier generations still known, oldest first: their number and the newest offset each handed out.
    pub earlier: Vec<(u64, u64)>,
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
}
