//! The calls that wait for Redis: bounded in bytes, each answered exactly once, whatever happens to the link.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::task::JoinSet;
use wire::{Position, Scope};

use super::caller::{CallError, Caller};
use super::config::RedisBrokerConfig;
use crate::broker::{BrokerError, Event, Publish, Ticket};

/// What a call is taken to hold besides its messages, in bytes: the task, the command's frame, the answer's.
pub(super) const CALL_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Calls {
    config: Arc<RedisBrokerConfig>,
    caller: Caller,
    running: JoinSet<Answer>,
    waiting: HashMap<Ticket, Waiting>,
    bytes: usize,
}

/// What is owed for a ticket.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    kind: Kind,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Publish,
}

/// A finished call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// Why the link is of no use any more, if the call has shown that.
    pub(super) cut: Option<String>,
}

#[derive(Debug)]
pub(super) enum Reply {
    /// For the caller of the broker.
    Event(Event),
    /// Redis took our own word.
    ProbeTaken,
    /// Redis did not answer the probe in time.
    ProbeLate,
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(config: Arc<RedisBrokerConfig>, caller: Caller) -> Self {
        Self { config, caller, running: JoinSet::new(), waiting: HashMap::new(), bytes: 0 }
    }

    /// Begins a publish, or returns its refusal.
    pub(super) fn publish(&mut self, publish: Publish) -> Option<Event> {
        let messages = publish.messages.iter().map(|(topic, message)| topic.len() + message.len()).sum::<usize>();
        if let Err(error) = self.admit(publish.ticket, Kind::Publish, messages) {
            return Some(Event::Published { ticket: publish.ticket, result: Err(error) });
        }
        let (caller, config) = (self.caller.clone(), Arc::clone(&self.config));
        self.running.spawn(async move {
            let result = caller.publish(&config.keyspace, &publish).await;
            let cut = cut(&result);
            let ticket = publish.ticket;
            // An unanswered publish may have been carried out; a refused one was not.
            let result = result.map_err(|error| match error {
                CallError::Refused(text) => BrokerError::Unavailable(text),
                CallError::Late | CallError::Broken(_) => BrokerError::Unknown,
            });
            Answer { reply: Reply::Event(Event::Published { ticket, result }), cut }
        });
        None
    }

    /// Begins a read, or returns its refusal.
    pub(super) fn read(
        &mut self,
        ticket: Ticket,
        scope: Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Option<Event> {
        if let Err(error) = self.admit(ticket, Kind::Read, 0) {
            return Some(Event::History { ticket, result: Err(error) });
        }
        let (caller, config) = (self.caller.clone(), Arc::clone(&self.config));
        self.running.spawn(async move {
            let result = caller.read(&config.keyspace, &scope, after, entries_max).await;
            let cut = cut(&result);
            // Reading twice does no harm, so a late answer is no mystery: ask again.
            let result = result.map_err(|error| BrokerError::Unavailable(error.to_string()));
            Answer { reply: Reply::Event(Event::History { ticket, result }), cut }
        });
        None
    }

    pub(super) fn probe(&mut self, channel: String, word: String) {
        let caller = self.caller.clone();
        self.running.spawn(async move {
            match caller.probe(&channel, &word).await {
                Ok(()) => Answer { reply: Reply::ProbeTaken, cut: None },
                Err(CallError::Late) => Answer { reply: Reply::ProbeLate, cut: None },
                // Refused where a publish would be: the way is not there.
                Err(error) => Answer { reply: Reply::ProbeLate, cut: Some(error.to_string()) },
            }
        });
    }

    /// A finished call, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Answer> {
        // Asking an empty set takes a lock; this stands in the way of every message.
        if self.running.is_empty() {
            return None;
        }
        let joined = self.running.try_join_next()?;
        Some(self.settle(joined))
    }

    /// Waits for a call to finish, for ever if there is none.
    pub(super) async fn next(&mut self) -> Answer {
        match self.running.join_next().await {
            Some(joined) => self.settle(joined),
            None => std::future::pending().await,
        }
    }

    /// Gives up what is still waiting: the link is gone.
    pub(super) fn abandon(self, why: &str) -> impl Iterator<Item = Event> {
        let why = BrokerError::Unavailable(why.to_owned());
        self.waiting.into_iter().map(move |(ticket, Waiting { kind, .. })| match kind {
            Kind::Read => Event::History { ticket, result: Err(why.clone()) },
            Kind::Publish => Event::Published { ticket, result: Err(BrokerError::Unknown) },
        })
    }

    fn admit(&mut self, ticket: Ticket, kind: Kind, messages: usize) -> Result<(), BrokerError> {
        let bytes = messages + CALL_BYTES;
        if self.bytes + bytes > self.config.in_flight_bytes_max {
            let why = format!("calls of {} bytes wait for Redis already", self.bytes);
            return Err(BrokerError::Unavailable(why));
        }
        self.bytes += bytes;
        let before = self.waiting.insert(ticket, Waiting { kind, bytes });
        debug_assert!(before.is_none(), "ticket {ticket:?} is used twice");
        Ok(())
    }

    fn settle(&mut self, joined: Result<Answer, tokio::task::JoinError>) -> Answer {
        let answer = joined.expect("a call does not panic, and is aborted only with the whole set");
        if let Reply::Event(Event::Published { ticket, .. } | Event::History { ticket, .. }) = &answer.reply {
            let waiting = self.waiting.remove(ticket).expect("a call runs under a ticket");
            self.bytes -= waiting.bytes;
        }
        answer
    }
}

fn cut<T>(result: &Result<T, CallError>) -> Option<String> {
    result.as_ref().err().filter(|error| error.ends_link()).map(CallError::to_string)
}
