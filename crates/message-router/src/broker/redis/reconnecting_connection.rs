//! Keeps one connection pair, to the primary or to one node of a cluster, and opens it again whenever it has ended.
//!
//! ```text
//!   Waiting ──(Backoff)──▶ Connecting ──(set_up: the first probe came back)──▶ Up ──(Disconnected)──▶ Waiting
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::backoff::Backoff;
use super::config::RedisBrokerConfig;
use super::connection_pair::{ConnectionPair, Disconnected, LinkEvent};
use super::connection_setup::{Endpoint, SetupError, set_up};
use crate::broker::{BrokerError, Command, Event};

/// Tries for ever. [`Event::Down`] is reported when a connection pair ends, when the first attempt fails, and again
/// when the reason has changed; it stays down between them.
#[derive(Debug)]
pub(super) struct ReconnectingConnection {
    config: Arc<RedisBrokerConfig>,
    endpoint: Endpoint,
    state: State,
    backoff: Backoff,
    /// The reason reported last, while down.
    reason: Option<String>,
    /// Whether an attempt has failed since the last connection pair ended.
    has_failed: bool,
    link_events: VecDeque<LinkEvent>,
}

#[derive(Debug)]
enum State {
    /// Waits `ms` before the next attempt. The timer needs a runtime, so the first waiting task makes it.
    Waiting {
        ms: u64,
        timer: Option<Pin<Box<Sleep>>>,
    },
    /// An attempt, in a task of its own so that it continues while no task awaits the broker.
    Connecting(JoinSet<Result<ConnectionPair, SetupError>>),
    Up(Box<ConnectionPair>),
}

// === impl ReconnectingConnection ===

impl ReconnectingConnection {
    /// Connects when it is first awaited.
    pub(super) fn new(config: Arc<RedisBrokerConfig>, endpoint: Endpoint) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_min_ms, config.backoff_max_ms),
            config,
            endpoint,
            state: State::Waiting { ms: 0, timer: None },
            reason: None,
            has_failed: false,
            link_events: VecDeque::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether its state is known: it is up, or an attempt has failed since it was.
    pub(super) fn is_settled(&self) -> bool {
        self.is_up() || self.has_failed
    }

    /// Why it is down, after a failed attempt or the end of a connection pair.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(super) fn command(&mut self, command: Command) {
        match &mut self.state {
            State::Up(pair) => pair.command(command),
            State::Waiting { .. } | State::Connecting(_) => {
                let reason = self.reason.as_deref().unwrap_or("not connected to Redis yet");
                self.link_events.extend(refusal(command, reason).map(LinkEvent::Event));
            }
        }
    }

    /// Returns the next event without waiting.
    pub(super) fn take(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(link_event) = self.link_events.pop_front() {
                return Some(link_event);
            }
            let State::Up(pair) = &mut self.state else { return None };
            match pair.next() {
                Ok(link_event) => return link_event,
                Err(disconnected) => self.go_down(disconnected),
            }
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    pub(super) async fn advance(&mut self) {
        match &mut self.state {
            State::Waiting { ms, timer } => {
                timer.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(*ms)))).as_mut().await;
                let mut attempt = JoinSet::new();
                attempt.spawn(set_up(Arc::clone(&self.config), self.endpoint.clone()));
                self.state = State::Connecting(attempt);
            }
            State::Connecting(attempt) => {
                let set_up_result = attempt.join_next().await.expect("an attempt is one task");
                match set_up_result.expect("an attempt does not panic, and is aborted only with the broker") {
                    Ok(pair) => self.go_up(pair),
                    Err(error) => {
                        self.has_failed = true;
                        self.wait_again(&error.to_string());
                    }
                }
            }
            State::Up(pair) => {
                if let Err(disconnected) = pair.wait().await {
                    self.go_down(disconnected);
                }
            }
        }
    }

    fn go_up(&mut self, pair: ConnectionPair) {
        match &self.endpoint {
            Endpoint::Primary => tracing::info!(redis = %self.config.target, "Redis connected"),
            Endpoint::Node(node, router) => {
                tracing::info!(redis = %node, "Redis Cluster node connected");
                router.connection_is_up(node, pair.command_connection());
            }
        }
        self.backoff.reset();
        self.has_failed = false;
        self.reason = None;
        self.state = State::Up(Box::new(pair));
        self.link_events.push_back(LinkEvent::Event(Event::Up));
    }

    pub(super) fn go_down(&mut self, Disconnected(reason): Disconnected) {
        let before = std::mem::replace(&mut self.state, State::Waiting { ms: 0, timer: None });
        self.wait_again(&reason);
        if let State::Up(pair) = before {
            self.link_events.extend(pair.close(&reason).map(LinkEvent::Event));
        }
    }

    fn wait_again(&mut self, reason: &str) {
        if let Endpoint::Node(node, router) = &self.endpoint {
            router.connection_is_down(node);
        }
        if self.reason.as_deref() != Some(reason) {
            match &self.endpoint {
                // The user of the broker logs the event, once for all that depends on it.
                Endpoint::Primary => tracing::debug!(redis = %self.config.target, reason, "Redis unavailable"),
                Endpoint::Node(node, _) => tracing::warn!(redis = %node, reason, "Redis Cluster node unavailable"),
            }
            self.reason = Some(reason.to_owned());
            self.link_events.push_back(LinkEvent::Event(Event::Down(reason.to_owned())));
        }
        let ms = self.backoff.next_ms(super::random());
        self.state = State::Waiting { ms, timer: None };
    }
}

/// The answer to a command that cannot be carried out while the connection is down.
pub(super) fn refusal(command: Command, reason: &str) -> Option<Event> {
    let error = BrokerError::Unavailable(reason.to_owned());
    match command {
        // The user of the broker subscribes again at the next `Up`.
        Command::Subscribe(_) | Command::Unsubscribe(_) | Command::Reset(_) => None,
        Command::Read { ticket, .. } => Some(Event::History { ticket, result: Err(error) }),
        Command::Tops { ticket, .. } => Some(Event::Tops { ticket, result: Err(error) }),
        Command::Lost { ticket, .. } => Some(Event::LossNoted { ticket, result: Err(error) }),
        Command::Publish(publish) => Some(Event::Published { ticket: publish.ticket, result: Err(error) }),
    }
}
