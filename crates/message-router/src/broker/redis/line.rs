//! One link, and making it anew whenever it has ended: to the one primary there is, or to one node of a cluster.
//!
//! ```text
//!   Waiting ──(Backoff)──▶ Connecting ──(greeting: the first word came round)──▶ Up ──(Cut)──▶ Waiting
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::backoff::Backoff;
use super::config::RedisBrokerConfig;
use super::greeting::{GreetingError, Spot, greet};
use super::link::{Cut, Link, Told};
use crate::broker::{BrokerError, Command, Event};

/// Tries for ever. [`Event::Down`] is told when a link ends, when the first attempt fails, and again when the
/// reason has changed; between them it is down all the same.
#[derive(Debug)]
pub(super) struct Line {
    config: Arc<RedisBrokerConfig>,
    spot: Spot,
    state: State,
    backoff: Backoff,
    /// The reason last told, while down.
    reason: Option<String>,
    /// An attempt has failed since the last link ended.
    has_failed: bool,
    told: VecDeque<Told>,
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

// === impl Line ===

impl Line {
    /// Connects when it is first awaited.
    pub(super) fn new(config: Arc<RedisBrokerConfig>, spot: Spot) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_min_ms, config.backoff_max_ms),
            config,
            spot,
            state: State::Waiting { ms: 0, timer: None },
            reason: None,
            has_failed: false,
            told: VecDeque::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether it is known what has become of it: it is up, or an attempt has failed since it was.
    pub(super) fn is_settled(&self) -> bool {
        self.is_up() || self.has_failed
    }

    /// Why it is down, once an attempt has failed or a link has ended.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(super) fn command(&mut self, command: Command) {
        match &mut self.state {
            State::Up(link) => link.command(command),
            State::Waiting { .. } | State::Connecting(_) => {
                let reason = self.reason.as_deref().unwrap_or("not connected to Redis yet");
                self.told.extend(refusal(command, reason).map(Told::Event));
            }
        }
    }

    /// What is at hand, without waiting.
    pub(super) fn take(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let State::Up(link) = &mut self.state else { return None };
            match link.next() {
                Ok(told) => return told,
                Err(cut) => self.go_down(cut),
            }
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    pub(super) async fn advance(&mut self) {
        match &mut self.state {
            State::Waiting { ms, timer } => {
                timer.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(*ms)))).as_mut().await;
                let mut attempt = JoinSet::new();
                attempt.spawn(greet(Arc::clone(&self.config), self.spot.clone()));
                self.state = State::Connecting(attempt);
            }
            State::Connecting(attempt) => {
                let greeted = attempt.join_next().await.expect("an attempt is one task");
                match greeted.expect("an attempt does not panic, and is aborted only with the broker") {
                    Ok(link) => self.go_up(link),
                    Err(error) => {
                        self.has_failed = true;
                        self.wait_again(&error.to_string());
                    }
                }
            }
            State::Up(link) => {
                if let Err(cut) = link.wait().await {
                    self.go_down(cut);
                }
            }
        }
    }

    fn go_up(&mut self, link: Link) {
        match &self.spot {
            Spot::Primary => tracing::info!(redis = %self.config.target, "the way through Redis works"),
            Spot::Node(node, guide) => {
                tracing::info!(redis = %node, "the way through a node of the cluster works");
                guide.link_is_up(node, link.caller());
            }
        }
        self.backoff.reset();
        self.has_failed = false;
        self.reason = None;
        self.state = State::Up(Box::new(link));
        self.told.push_back(Told::Event(Event::Up));
    }

    pub(super) fn go_down(&mut self, Cut(reason): Cut) {
        let before = std::mem::replace(&mut self.state, State::Waiting { ms: 0, timer: None });
        self.wait_again(&reason);
        if let State::Up(link) = before {
            self.told.extend(link.close(&reason).map(Told::Event));
        }
    }

    fn wait_again(&mut self, reason: &str) {
        if let Spot::Node(node, guide) = &self.spot {
            guide.link_is_down(node);
        }
        if self.reason.as_deref() != Some(reason) {
            match &self.spot {
                Spot::Primary => tracing::warn!(redis = %self.config.target, reason, "Redis is away"),
                Spot::Node(node, _) => tracing::warn!(redis = %node, reason, "a node of the cluster is away"),
            }
            self.reason = Some(reason.to_owned());
            self.told.push_back(Told::Event(Event::Down(reason.to_owned())));
        }
        let ms = self.backoff.next_ms(super::random());
        self.state = State::Waiting { ms, timer: None };
    }
}

/// The answer to a command that nobody can carry out.
pub(super) fn refusal(command: Command, reason: &str) -> Option<Event> {
    let error = BrokerError::Unavailable(reason.to_owned());
    match command {
        // At the next `Up` the caller asks again.
        Command::Subscribe(_) | Command::Unsubscribe(_) | Command::Reset(_) => None,
        Command::Read { ticket, .. } => Some(Event::History { ticket, result: Err(error) }),
        Command::Tops { ticket, .. } => Some(Event::Tops { ticket, result: Err(error) }),
        Command::Lost { ticket, .. } => Some(Event::LossNoted { ticket, result: Err(error) }),
        Command::Publish(publish) => Some(Event::Published { ticket: publish.ticket, result: Err(error) }),
    }
}
