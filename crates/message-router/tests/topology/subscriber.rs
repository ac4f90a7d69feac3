//! A broker that records every event, through outages too.

use std::collections::HashMap;
use std::time::Duration;

use message_router::{
    Broker as _, BrokerError, Command, Draft, Event, History, Publish, RedisBroker, RedisBrokerConfig, Ticket,
};
use tokio::time::{Instant, timeout_at};
use wire::{Envelope, Position, Scope};

use super::MESSAGE;

/// Longer than anything here takes on a loaded machine. A broken broker would wait for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct RecordingSubscriber {
    broker: RedisBroker,
    /// Number of `Up` events.
    pub(crate) ups: u32,
    /// The reason of each `Down` event.
    pub(crate) downs: Vec<String>,
    /// The scope of each confirmation, in order.
    pub(crate) confirmed: Vec<Scope>,
    pub(crate) lost: Vec<Scope>,
    /// Scope and position of each message.
    pub(crate) received: Vec<(String, Position)>,
    pub(crate) published: HashMap<u64, Result<Position, BrokerError>>,
    histories: HashMap<u64, Result<History, BrokerError>>,
    tickets: u64,
}

impl RecordingSubscriber {
    pub(crate) fn new(config: RedisBrokerConfig) -> Self {
        Self {
            broker: RedisBroker::new(config),
            ups: 0,
            downs: Vec::new(),
            confirmed: Vec::new(),
            lost: Vec::new(),
            received: Vec::new(),
            published: HashMap::new(),
            histories: HashMap::new(),
            tickets: 0,
        }
    }

    pub(crate) async fn up(config: RedisBrokerConfig) -> Self {
        let mut subscriber = Self::new(config);
        subscriber.until("up", |subscriber| subscriber.ups == 1).await;
        subscriber
    }

    /// Handles events until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            let event = timeout_at(deadline, self.broker.next_event()).await;
            self.take(event.unwrap_or_else(|_| panic!("{what}: not in time; down: {:?}", self.downs)));
        }
    }

    /// Handles events for this long.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(event) = timeout_at(end, self.broker.next_event()).await {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Up => self.ups += 1,
            Event::Down(reason) => self.downs.push(reason),
            Event::Subscribed(scope) => self.confirmed.push(scope),
            Event::Lost(scope) => {
                self.lost.push(scope.clone());
                self.broker.command(Command::Subscribe(scope));
            }
            Event::Message { scope, envelope } => {
                let scope = std::str::from_utf8(&scope).unwrap();
                let envelope = Envelope::parse(&envelope).unwrap();
                self.received.extend(envelope.items().map(|item| (scope.to_owned(), item.unwrap().0)));
            }
            // Only the router sends these commands; this test does not.
            Event::Tops { .. } | Event::LossNoted { .. } => {}
            Event::History { ticket, result } => drop(self.histories.insert(ticket.0, result)),
            Event::Published { ticket, result } => {
                let again = self.published.insert(ticket.0, result.map(|stored| stored.position));
                assert_eq!(again, None, "a ticket is answered once");
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, scope: &Scope) {
        let before = self.confirmed.len();
        self.broker.command(Command::Subscribe(scope.clone()));
        self.until("subscribed", |subscriber| subscriber.confirmed[before..].contains(scope)).await;
    }

    pub(crate) fn unsubscribe(&mut self, scope: &Scope) {
        self.broker.command(Command::Unsubscribe(scope.clone()));
    }

    /// Number of messages received in a scope.
    pub(crate) fn count(&self, scope: &Scope) -> usize {
        self.received.iter().filter(|(name, _)| name == scope.as_str()).count()
    }

    /// Sends a publish. The answer is stored in `published` under the returned number.
    pub(crate) fn send(&mut self, scope: &Scope) -> u64 {
        self.tickets += 1;
        let messages = vec![Draft::new("", MESSAGE.to_vec())];
        let publish = Publish { ticket: Ticket(self.tickets), scope: scope.clone(), messages, replicated: false };
        self.broker.command(Command::Publish(publish));
        self.tickets
    }

    pub(crate) async fn try_publish(&mut self, scope: &Scope) -> Result<Position, BrokerError> {
        let ticket = self.send(scope);
        self.until("an answer", |subscriber| subscriber.published.contains_key(&ticket)).await;
        self.published[&ticket].clone()
    }

    /// Publishes, and repeats it until the broker accepts it.
    pub(crate) async fn publish(&mut self, scope: &Scope) -> Position {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.try_publish(scope).await {
                Ok(position) => return position,
                Err(error) => assert!(Instant::now() < deadline, "never taken: {error}"),
            }
            self.listen(Duration::from_millis(20)).await;
        }
    }

    /// Reads the history after a position, and repeats it until the broker answers.
    pub(crate) async fn read(&mut self, scope: &Scope, after: Position) -> History {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.tickets += 1;
            let (ticket, scope) = (Ticket(self.tickets), scope.clone());
            self.broker.command(Command::Read { ticket, scope, after: Some(after), entries_max: 10_000 });
            self.until("a history", |subscriber| subscriber.histories.contains_key(&ticket.0)).await;
            match self.histories.remove(&ticket.0).unwrap() {
                Ok(history) => return history,
                Err(error) => assert!(Instant::now() < deadline, "never read: {error}"),
            }
            self.listen(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn receive(&mut self, scope: &Scope, position: Position) {
        let message = (scope.as_str().to_owned(), position);
        self.until("a message", |subscriber| subscriber.received.contains(&message)).await;
    }
}
