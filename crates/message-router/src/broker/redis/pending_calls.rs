//! Calls that wait for Redis. They are bounded in bytes, and each is answered exactly once, whatever happens to the
//! connection.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use keyspace::Placed;
use redis_topology::CommandError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::{BATCH_MESSAGES_MAX, Position, Scope};

use super::cluster_router::CallRoute;
use super::command_connection::{CommandConnection, ends_connection, publish_error};
use super::config::RedisBrokerConfig;
use super::publish_queue::{Batch, PublishQueues, Share};
use super::refused_scopes::RefusedScopes;
use super::replicas::Replicas;
use crate::broker::{BrokerError, Event, History, Publish, Stored, Ticket};

/// Memory counted for a call beside its messages, in bytes: the task, the frame of the command, and that of the
/// answer.
pub(super) const CALL_BYTES: usize = 512;

/// Memory counted for one scope in a query for newest positions, in bytes: its name in the command, and its answer.
const TOP_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct PendingCalls {
    config: Arc<RedisBrokerConfig>,
    route: CallRoute,
    /// Publishes that have not been sent.
    queues: PublishQueues,
    /// Publishes that wait for a replica, if replicas can be asked.
    replicas: Option<Replicas>,
    running: JoinSet<FinishedCall>,
    waiting: HashMap<Ticket, PendingCall>,
    bytes: usize,
    refused: RefusedScopes,
}

/// What a ticket's answer is, and what its call counts.
#[derive(Debug, Clone, Copy)]
struct PendingCall {
    kind: CallKind,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
enum CallKind {
    Read,
    Tops,
    Lost,
    Publish,
}

/// A call that has ended.
#[derive(Debug)]
struct FinishedCall {
    result: CallResult,
    /// Why the connection pair must end, if the call has shown that.
    disconnect_reason: Option<String>,
}

#[derive(Debug)]
enum CallResult {
    Publish(Batch, Result<Vec<Placed>, CommandError>),
    Read(Ticket, Result<History, CommandError>),
    Tops(Ticket, Result<Vec<Option<Position>>, CommandError>),
    Lost(Ticket, Result<(), CommandError>),
    Replicated(Result<bool, CommandError>),
    Probe(CallReply),
}

/// What a finished call means for the connection pair and the user of the broker.
#[derive(Debug)]
pub(super) struct CallOutcome {
    pub(super) reply: CallReply,
    /// Why the connection pair must end, if the call has shown that.
    pub(super) disconnect_reason: Option<String>,
}

#[derive(Debug)]
pub(super) enum CallReply {
    /// Events for the user of the broker.
    Events(Vec<Event>),
    /// Redis accepted the probe.
    ProbeTaken,
    /// Redis did not answer the probe in time.
    ProbeLate,
}

// === impl PendingCalls ===

impl PendingCalls {
    pub(super) fn new(config: Arc<RedisBrokerConfig>, route: CallRoute, replicas: Option<Replicas>) -> Self {
        let queues = PublishQueues::new(Duration::from_millis(config.reply_deadline_ms));
        let (running, waiting) = (JoinSet::new(), HashMap::new());
        Self { config, route, queues, replicas, running, waiting, bytes: 0, refused: RefusedScopes::default() }
    }

    /// Takes a publish, which [`Self::send`] sends, or returns its refusal.
    pub(super) fn publish(&mut self, publish: Publish) -> Option<Event> {
        let ticket = publish.ticket;
        let refuse = |error| Some(Event::Published { ticket, result: Err(error) });
        if !(1..=BATCH_MESSAGES_MAX).contains(&publish.messages.len()) {
            let why = format!("a publish carries 1 to {BATCH_MESSAGES_MAX} messages");
            return refuse(BrokerError::Wrong(why));
        }
        let messages = publish.messages.iter().map(|draft| draft.topic.len() + draft.message.len()).sum::<usize>();
        if let Err(error) = self.admit(ticket, CallKind::Publish, messages) {
            return refuse(error);
        }
        self.queues.push(publish, Instant::now());
        None
    }

    /// Starts the calls that can start: publishes of one scope that have gathered go together. Refuses publishes that
    /// have waited too long.
    pub(super) fn send(&mut self, refused: &mut impl Extend<Event>) {
        while self.queues.is_ready() {
            let Some(mut batch) = self.queues.next(Instant::now()) else { return };
            refused.extend(std::mem::take(&mut batch.late).into_iter().map(|ticket| {
                self.forget(ticket);
                let why = "earlier publishes of its scope take too long".to_owned();
                Event::Published { ticket, result: Err(BrokerError::Unavailable(why)) }
            }));
            if batch.shares.is_empty() {
                self.queues.done(&batch.scope);
                continue;
            }
            let (route, config) = (self.route.clone(), Arc::clone(&self.config));
            self.running.spawn(async move {
                let result = route.publish(&config.keyspace, &batch.scope, &batch.messages).await;
                let disconnect_reason = disconnect_reason(&result);
                FinishedCall { result: CallResult::Publish(batch, result), disconnect_reason }
            });
        }
    }

    /// Starts a read, or returns its refusal.
    pub(super) fn read(
        &mut self,
        ticket: Ticket,
        scope: Scope,
        after: Option<Position>,
        entries_max: usize,
    ) -> Option<Event> {
        if let Err(error) = self.admit(ticket, CallKind::Read, 0) {
            return Some(Event::History { ticket, result: Err(error) });
        }
        let (route, config) = (self.route.clone(), Arc::clone(&self.config));
        self.running.spawn(async move {
            let result = route.read(&config.keyspace, &scope, after, entries_max).await;
            let disconnect_reason = disconnect_reason(&result);
            FinishedCall { result: CallResult::Read(ticket, result), disconnect_reason }
        });
        None
    }

    /// Starts a query for newest positions, or returns its refusal.
    pub(super) fn tops(&mut self, ticket: Ticket, scopes: Vec<Scope>, renew: Vec<(usize, u64)>) -> Option<Event> {
        if let Err(error) = self.admit(ticket, CallKind::Tops, scopes.len() * TOP_BYTES) {
            return Some(Event::Tops { ticket, result: Err(error) });
        }
        let (route, config) = (self.route.clone(), Arc::clone(&self.config));
        self.running.spawn(async move {
            let result = route.tops(&config.keyspace, &scopes, &renew).await;
            let disconnect_reason = disconnect_reason(&result);
            FinishedCall { result: CallResult::Tops(ticket, result), disconnect_reason }
        });
        None
    }

    /// Starts to mark a lost message, or returns the refusal.
    pub(super) fn lost(&mut self, ticket: Ticket, scope: Scope, position: Position) -> Option<Event> {
        if let Err(error) = self.admit(ticket, CallKind::Lost, 0) {
            return Some(Event::LossNoted { ticket, result: Err(error) });
        }
        let (route, config) = (self.route.clone(), Arc::clone(&self.config));
        self.running.spawn(async move {
            let result = route.lost(&config.keyspace, &scope, position).await;
            let disconnect_reason = disconnect_reason(&result);
            FinishedCall { result: CallResult::Lost(ticket, result), disconnect_reason }
        });
        None
    }

    pub(super) fn probe(&mut self, command_connection: CommandConnection, channel: String, word: String) {
        self.running.spawn(async move {
            match command_connection.probe(&channel, &word).await {
                Ok(()) => FinishedCall { result: CallResult::Probe(CallReply::ProbeTaken), disconnect_reason: None },
                Err(CommandError::Late) => {
                    FinishedCall { result: CallResult::Probe(CallReply::ProbeLate), disconnect_reason: None }
                }
                // The probe is refused wherever a publish would be refused.
                Err(error) => FinishedCall {
                    result: CallResult::Probe(CallReply::ProbeLate),
                    disconnect_reason: Some(error.to_string()),
                },
            }
        });
    }

    /// Returns a finished call, if there is one.
    pub(super) fn try_next(&mut self) -> Option<CallOutcome> {
        // Polling an empty set takes a lock, and this runs for every message.
        if self.running.is_empty() {
            return None;
        }
        let joined = self.running.try_join_next()?;
        Some(self.settle(joined))
    }

    /// Waits for a call to finish; for ever if none runs.
    pub(super) async fn next(&mut self) -> CallOutcome {
        match self.running.join_next().await {
            Some(joined) => self.settle(joined),
            None => std::future::pending().await,
        }
    }

    /// Answers all calls that still wait, because the connection has ended. Messages that were not sent are not
    /// stored.
    pub(super) fn abandon(self, why: &str) -> impl Iterator<Item = Event> {
        let why = BrokerError::Unavailable(why.to_owned());
        let unsent: HashSet<Ticket> = self.queues.unsent().collect();
        let unanswered = self.replicas.into_iter().flat_map(Replicas::into_unanswered);
        // Redis has stored these messages, and whether a replica has them is unknown.
        let mut stored: HashMap<Ticket, Stored> = unanswered.collect();
        self.waiting.into_iter().map(move |(ticket, PendingCall { kind, .. })| match kind {
            CallKind::Publish if stored.contains_key(&ticket) => {
                Event::Published { ticket, result: stored.remove(&ticket).ok_or(BrokerError::Unknown) }
            }
            CallKind::Read => Event::History { ticket, result: Err(why.clone()) },
            CallKind::Tops => Event::Tops { ticket, result: Err(why.clone()) },
            CallKind::Lost => Event::LossNoted { ticket, result: Err(why.clone()) },
            CallKind::Publish if unsent.contains(&ticket) => Event::Published { ticket, result: Err(why.clone()) },
            CallKind::Publish => Event::Published { ticket, result: Err(BrokerError::Unknown) },
        })
    }

    fn admit(&mut self, ticket: Ticket, kind: CallKind, messages: usize) -> Result<(), BrokerError> {
        let bytes = messages + CALL_BYTES;
        if self.bytes + bytes > self.config.in_flight_bytes_max {
            let why = format!("calls of {} bytes wait for Redis already", self.bytes);
            return Err(BrokerError::Unavailable(why));
        }
        self.bytes += bytes;
        let before = self.waiting.insert(ticket, PendingCall { kind, bytes });
        debug_assert!(before.is_none(), "ticket {ticket:?} is used twice");
        Ok(())
    }

    fn settle(&mut self, joined: Result<FinishedCall, tokio::task::JoinError>) -> CallOutcome {
        let FinishedCall { result, disconnect_reason } =
            joined.expect("a call does not panic, and is aborted only with the whole set");
        let reply = match result {
            CallResult::Publish(batch, result) => CallReply::Events(self.published(batch, result)),
            CallResult::Read(ticket, result) => {
                self.forget(ticket);
                let result = result.inspect_err(|error| self.refused.note(error));
                // A read can be repeated without harm, so a late answer is reported as unavailable.
                let result = result.map_err(|error| BrokerError::Unavailable(error.to_string()));
                CallReply::Events(vec![Event::History { ticket, result }])
            }
            CallResult::Tops(ticket, result) => {
                self.forget(ticket);
                let result = result.map_err(|error| BrokerError::Unavailable(error.to_string()));
                CallReply::Events(vec![Event::Tops { ticket, result }])
            }
            CallResult::Lost(ticket, result) => {
                self.forget(ticket);
                // Marking twice does no harm either.
                let result = result.map_err(|error| BrokerError::Unavailable(error.to_string()));
                CallReply::Events(vec![Event::LossNoted { ticket, result }])
            }
            CallResult::Replicated(result) => {
                let replicated = result.unwrap_or(false);
                let answered = self.replicas.as_mut().map(Replicas::finish).unwrap_or_default();
                let published_event = |(ticket, stored)| {
                    self.forget(ticket);
                    Event::Published { ticket, result: Ok(Stored { replicated, ..stored }) }
                };
                let events = answered.into_iter().map(published_event).collect();
                self.ask_replicas();
                CallReply::Events(events)
            }
            CallResult::Probe(reply) => reply,
        };
        CallOutcome { reply, disconnect_reason }
    }

    /// Tells each publisher what became of its own messages.
    fn published(&mut self, batch: Batch, result: Result<Vec<Placed>, CommandError>) -> Vec<Event> {
        let mut events = Vec::with_capacity(batch.shares.len());
        let mut published_event = |calls: &mut Self, ticket, result| {
            calls.forget(ticket);
            events.push(Event::Published { ticket, result });
        };
        match result {
            Ok(placed) => {
                let mut placed = placed.as_slice();
                for Share { ticket, count, replicated } in batch.shares {
                    let (own, others) = placed.split_at(count);
                    placed = others;
                    let duplicate = own.iter().all(|(_, known)| *known);
                    let (position, _) = own.last().expect("nobody publishes nothing");
                    let stored = Stored { duplicate, ..Stored::at(*position) };
                    match &mut self.replicas {
                        Some(replicas) if replicated => replicas.push(ticket, stored, &batch.scope),
                        _ => published_event(self, ticket, Ok(stored)),
                    }
                }
                self.ask_replicas();
            }
            Err(error) => {
                // A publish without an answer may have been carried out. A refused one was not, and neither were those
                // that wait behind it.
                let behind: Vec<Ticket> = match error {
                    CommandError::Refused(_) => Vec::new(),
                    CommandError::Late | CommandError::Broken(_) | CommandError::Malformed(_) => {
                        self.queues.give_up(&batch.scope).collect()
                    }
                };
                let why = error.to_string();
                let error = publish_error(error);
                batch.shares.into_iter().for_each(|share| published_event(self, share.ticket, Err(error.clone())));
                behind
                    .into_iter()
                    .for_each(|ticket| published_event(self, ticket, Err(BrokerError::Unavailable(why.clone()))));
            }
        }
        self.queues.done(&batch.scope);
        events
    }

    /// Asks a replica on behalf of all publishes that were answered since the last question.
    fn ask_replicas(&mut self) {
        let Some(query) = self.replicas.as_mut().and_then(Replicas::begin) else { return };
        let mark = self.config.keyspace.mark(&query.scope);
        self.running.spawn(async move {
            let result = query.ask(&mark).await;
            FinishedCall { disconnect_reason: disconnect_reason(&result), result: CallResult::Replicated(result) }
        });
    }

    fn forget(&mut self, ticket: Ticket) {
        let waiting = self.waiting.remove(&ticket).expect("a call runs under a ticket");
        self.bytes -= waiting.bytes;
    }
}

fn disconnect_reason<T>(result: &Result<T, CommandError>) -> Option<String> {
    result.as_ref().err().filter(|error| ends_connection(error)).map(CommandError::to_string)
}
