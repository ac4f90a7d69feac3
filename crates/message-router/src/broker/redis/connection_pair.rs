//! The subscriber and the command connection to one Redis, which are up and down together.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::cluster_router::CallRoute;
use super::command_connection::CommandConnection;
use super::config::RedisBrokerConfig;
use super::pending_calls::{CallOutcome, CallReply, PendingCalls};
use super::probe::{Probe, Tick};
use super::replicas::Replicas;
use super::sharded_commands::Misrouted;
use super::subscriber::{Subscriber, SubscriberError, SubscriberEvent};
use crate::broker::{Command, Event};

/// Why a connection pair has ended, in a sentence for the operator.
#[derive(Debug)]
pub(super) struct Disconnected(pub(super) String);

/// What a connection pair reports.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// An event for the user of the broker.
    Event(Event),
    /// The slot of this scope, given as text, has moved to another node of the cluster.
    Ended(Bytes),
    /// Subscribe commands that were sent to the wrong node.
    Misrouted(Misrouted),
}

#[derive(Debug)]
pub(super) struct ConnectionPair {
    config: Arc<RedisBrokerConfig>,
    subscriber: Subscriber,
    command_connection: CommandConnection,
    calls: PendingCalls,
    /// Tasks that move the bytes of the command connections and listen to the Sentinels. The first one that ends gives
    /// the reason why the pair ends; the others are aborted with the pair.
    driver: JoinSet<Disconnected>,
    probe: Probe,
    probe_channel: String,
    /// Fires when the probe is due. It is reset and not made anew, because a new timer for every message would cost
    /// more than the message.
    alarm: Pin<Box<Sleep>>,
    /// Events of calls that finished during [`Self::wait`].
    events: VecDeque<Event>,
    /// Why the pair must end, if an answer has shown that; reported behind the events of that answer.
    disconnected: Option<Disconnected>,
}

// === impl ConnectionPair ===

impl ConnectionPair {
    pub(super) fn new(
        config: Arc<RedisBrokerConfig>,
        subscriber: Subscriber,
        command_connection: CommandConnection,
        replicas: Option<Replicas>,
        driver: JoinSet<Disconnected>,
        probe_channel: String,
    ) -> Self {
        let probe = Probe::new(Duration::from_millis(config.probe_interval_ms), Instant::now());
        Self {
            subscriber,
            calls: PendingCalls::new(Arc::clone(&config), CallRoute::One(command_connection.clone()), replicas),
            command_connection,
            driver,
            alarm: Box::pin(sleep_until(probe.due())),
            probe,
            probe_channel,
            events: VecDeque::new(),
            disconnected: None,
            config,
        }
    }

    /// The command connection, for calls that the cluster router sends.
    pub(super) fn command_connection(&self) -> CommandConnection {
        self.command_connection.clone()
    }

    /// Takes a command. If it is refused at once, [`Self::next`] returns the refusal.
    pub(super) fn command(&mut self, command: Command) {
        let refused = match command {
            Command::Subscribe(scope) => {
                self.subscriber.subscribe(scope);
                None
            }
            Command::Unsubscribe(scope) => {
                self.subscriber.unsubscribe(scope);
                None
            }
            Command::Read { ticket, scope, after, entries_max } => self.calls.read(ticket, scope, after, entries_max),
            Command::Tops { ticket, scopes, renew } => self.calls.tops(ticket, scopes, renew),
            Command::Lost { ticket, scope, position } => self.calls.lost(ticket, scope, position),
            Command::Publish(publish) => self.calls.publish(publish),
            Command::Reset(reason) => {
                self.disconnected.get_or_insert(Disconnected(reason));
                None
            }
        };
        self.events.extend(refused);
    }

    /// Returns the next event without waiting.
    pub(super) fn next(&mut self) -> Result<Option<LinkEvent>, Disconnected> {
        self.subscriber.send_changes(&self.config.keyspace)?;
        self.calls.send(&mut self.events);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(LinkEvent::Event(event)));
            }
            if let Some(disconnected) = self.disconnected.take() {
                return Err(disconnected);
            }
            if let Some(answer) = self.calls.try_next() {
                self.take_answer(answer);
                self.calls.send(&mut self.events);
                continue;
            }
            match self.subscriber.next(&self.config.keyspace)? {
                Some(SubscriberEvent::Subscribed(scope)) => {
                    return Ok(Some(LinkEvent::Event(Event::Subscribed(scope))));
                }
                Some(SubscriberEvent::Ended(scope)) => return Ok(Some(LinkEvent::Ended(scope))),
                Some(SubscriberEvent::Misrouted(misrouted)) => return Ok(Some(LinkEvent::Misrouted(misrouted))),
                Some(SubscriberEvent::Message { channel, payload }) => {
                    self.probe.received();
                    if let Some(scope) = self.scope_of(channel) {
                        return Ok(Some(LinkEvent::Event(Event::Message { scope, envelope: payload })));
                    }
                }
                None if self.subscriber.fill()? => {
                    // Nothing else arrives before the end of a long message.
                    if self.subscriber.is_dropping() {
                        self.probe.received();
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// Waits until [`Self::next`] may have an event. Dropping the future loses nothing.
    pub(super) async fn wait(&mut self) -> Result<(), Disconnected> {
        tokio::select! {
            biased;
            () = self.alarm.as_mut() => self.tick(),
            ended = self.driver.join_next() => Err(match ended {
                Some(Ok(disconnected)) => disconnected,
                _ => Disconnected("the command connection is gone".into()),
            }),
            answer = self.calls.next() => {
                self.take_answer(answer);
                Ok(())
            }
            ready = self.subscriber.ready() => Ok(ready?),
        }
    }

    /// Ends the pair and answers every command that still waits.
    pub(super) fn close(mut self, why: &str) -> impl Iterator<Item = Event> {
        // A call that has finished by now keeps its own answer.
        while let Some(answer) = self.calls.try_next() {
            self.take_answer(answer);
        }
        self.events.into_iter().chain(self.calls.abandon(why))
    }

    fn tick(&mut self) -> Result<(), Disconnected> {
        match self.probe.tick(Instant::now()) {
            Tick::Wait => {}
            Tick::Send => {
                self.calls.probe(self.command_connection(), self.probe_channel.clone(), String::from("probe"))
            }
            Tick::Dead(missing) => return Err(Disconnected(format!("the Redis connection is broken: {missing}"))),
        }
        self.alarm.as_mut().reset(self.probe.due());
        Ok(())
    }

    fn take_answer(&mut self, answer: CallOutcome) {
        match answer.reply {
            CallReply::Events(events) => self.events.extend(events),
            CallReply::ProbeTaken => self.probe.answered(),
            CallReply::ProbeLate => {}
        }
        if self.disconnected.is_none() {
            self.disconnected = answer.disconnect_reason.map(Disconnected);
        }
    }

    /// The text of the scope in a channel's name; nothing for the probe's channel.
    fn scope_of(&self, mut channel: Bytes) -> Option<Bytes> {
        let length = self.config.keyspace.scope_of_channel(&channel)?.len();
        channel.advance(channel.len() - length - 1);
        channel.truncate(length);
        Some(channel)
    }
}

impl From<SubscriberError> for Disconnected {
    fn from(error: SubscriberError) -> Self {
        Self(error.to_string())
    }
}
