//! The broker that makes a cluster: messages go through Redis.
//!
//! ```text
//!              ┌─ Link ────────────────────────────────────────────────────────────┐
//!   Command ──▶│ Calls ──▶ Caller ═ MultiplexedConnection ═▶ FCALL tidegate_…      │═▶ Redis
//!   Event   ◀──│ Probe ─▶ tidegate_probe ─▶                                        │
//!   Event   ◀──│ Subscriber ◀─ resp::Decoder ◀═ our own RESP3 socket, SUBSCRIBE    │◀═ Redis
//!              └───────────────────────────────────────────────────────────────────┘
//!   Waiting ──(Backoff)──▶ Connecting ──(greeting: the first word came round)──▶ Up ──(Cut)──▶ Waiting
//! ```
//!
//! Both connections live and die as one [`link::Link`]. Nothing runs in the background but the moving of the
//! command connection's bytes: whoever awaits [`RedisBroker::next_event`] reads the subscriber's socket itself.

mod backoff;
mod caller;
mod calls;
mod config;
mod greeting;
mod link;
mod probe;
mod resp;
mod subscriber;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use self::backoff::Backoff;
pub use self::config::{BadRedisUrl, RedisBrokerConfig};
use self::greeting::{GreetingError, greet};
use self::link::{Cut, Link};
use super::{Broker, BrokerError, Command, Event, Publish};

/// Carries messages through Redis 7.0 or later, or Valkey.
///
/// It tries for ever. [`Event::Down`] is told when a link ends, when the first attempt fails, and again when the
/// reason has changed; between them the broker is down all the same.
#[derive(Debug)]
pub struct RedisBroker {
    config: Arc<RedisBrokerConfig>,
    state: State,
    backoff: Backoff,
    /// The reason last told, while down.
    told: Option<String>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    /// For the next attempt. The timer needs a runtime, so it is made by whoever waits first.
    Waiting {
        ms: u64,
        timer: Option<Pin<Box<Sleep>>>,
    },
    /// One task, so that an attempt goes on while nobody awaits the broker.
    Connecting(JoinSet<Result<Link, GreetingError>>),
    Up(Box<Link>),
}

// === impl RedisBroker ===

impl RedisBroker {
    /// A broker that connects when it is first awaited.
    ///
    /// # Panics
    /// When the shortest backoff is 0 or above the longest.
    #[must_use]
    pub fn new(config: RedisBrokerConfig) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_min_ms, config.backoff_max_ms),
            config: Arc::new(config),
            state: State::Waiting { ms: 0, timer: None },
            told: None,
            events: VecDeque::new(),
        }
    }

    /// What is at hand, without waiting.
    fn take_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let State::Up(link) = &mut self.state else { return None };
            match link.next() {
                Ok(event) => return event,
                Err(cut) => self.go_down(cut),
            }
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    async fn advance(&mut self) {
        match &mut self.state {
            State::Waiting { ms, timer } => {
                timer.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(*ms)))).as_mut().await;
                let mut attempt = JoinSet::new();
                attempt.spawn(greet(Arc::clone(&self.config)));
                self.state = State::Connecting(attempt);
            }
            State::Connecting(attempt) => {
                let greeted = attempt.join_next().await.expect("an attempt is one task");
                match greeted.expect("an attempt does not panic, and is aborted only with the broker") {
                    Ok(link) => {
                        tracing::info!(redis = %self.config.target.host, "the way through Redis works");
                        self.backoff.reset();
                        self.told = None;
                        self.state = State::Up(Box::new(link));
                        self.events.push_back(Event::Up);
                    }
                    Err(error) => self.wait_again(&error.to_string()),
                }
            }
            State::Up(link) => {
                if let Err(cut) = link.wait().await {
                    self.go_down(cut);
                }
            }
        }
    }

    fn go_down(&mut self, Cut(reason): Cut) {
        let before = std::mem::replace(&mut self.state, State::Waiting { ms: 0, timer: None });
        self.wait_again(&reason);
        if let State::Up(link) = before {
            self.events.extend(link.close(&reason));
        }
    }

    fn wait_again(&mut self, reason: &str) {
        if self.told.as_deref() != Some(reason) {
            tracing::warn!(redis = %self.config.target.host, reason, "Redis is away");
            self.told = Some(reason.to_owned());
            self.events.push_back(Event::Down(reason.to_owned()));
        }
        let ms = self.backoff.next_ms(random());
        self.state = State::Waiting { ms, timer: None };
    }

    /// The answer to a command while there is no link.
    fn refuse(&mut self, command: Command) {
        let reason = self.told.as_deref().unwrap_or("not connected to Redis yet");
        let error = BrokerError::Unavailable(reason.to_owned());
        match command {
            // At the next `Up` the caller asks again.
            Command::Subscribe(_) | Command::Unsubscribe(_) => {}
            Command::Read { ticket, .. } => self.events.push_back(Event::History { ticket, result: Err(error) }),
            Command::Publish(Publish { ticket, .. }) => {
                self.events.push_back(Event::Published { ticket, result: Err(error) });
            }
        }
    }
}

impl Broker for RedisBroker {
    fn command(&mut self, command: Command) {
        match &mut self.state {
            State::Up(link) => link.command(command),
            State::Waiting { .. } | State::Connecting(_) => self.refuse(command),
        }
    }

    async fn next_event(&mut self) -> Event {
        // A busy Redis always has an event at hand; the other tasks of this thread get their turn all the same.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(event) = self.take_event() {
                return event;
            }
            self.advance().await;
        }
    }

    fn try_next_event(&mut self) -> Option<Event> {
        self.take_event()
    }
}

/// 64 bits for jitter and for telling words apart; nothing secret hangs on them.
fn random() -> u64 {
    getrandom::u64().expect("the system has randomness once it has started")
}
