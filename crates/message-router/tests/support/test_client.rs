//! A test client for one broker: it sends one command at a time and awaits the answer with a deadline.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use message_router::{Broker, BrokerError, Command, Draft, Event, History, Publish, Stored, Ticket};
use tokio::time::timeout;
use wire::{Envelope, Position, Scope};

/// Longer than anything here takes on a loaded machine. A broken broker would wait for ever.
const DEADLINE: Duration = Duration::from_secs(30);
/// A message that every broker accepts.
pub(crate) const MESSAGE: &str = r#"{"type":"t"}"#;

/// One message as the client received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedMessage {
    pub(crate) scope: String,
    pub(crate) position: Position,
    pub(crate) topic: String,
    pub(crate) message: Bytes,
}

pub(crate) struct TestClient<B> {
    pub(crate) broker: B,
    /// Messages that arrived while another event was awaited.
    received: VecDeque<ReceivedMessage>,
    tickets: u64,
}

impl<B: Broker> TestClient<B> {
    /// Waits for the first event, which must be `Up`.
    pub(crate) async fn up(broker: B) -> Self {
        let mut client = Self { broker, received: VecDeque::new(), tickets: 0 };
        let event = client.next().await;
        assert!(matches!(event, Event::Up), "the first event is Up, not {event:?}");
        client
    }

    pub(crate) async fn next(&mut self) -> Event {
        timeout(DEADLINE, self.broker.next_event()).await.expect("the broker has something to tell")
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The first event for which `pick` returns a value. Messages that arrive meanwhile are kept.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            match self.next().await {
                Event::Message { scope, envelope } => self.received.extend(items(&scope, &envelope)),
                event => {
                    if let Some(found) = pick(event) {
                        return found;
                    }
                }
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, scope: &Scope) {
        self.broker.command(Command::Subscribe(scope.clone()));
        self.until(|event| match event {
            Event::Subscribed(confirmed) => (confirmed == *scope).then_some(()),
            event => panic!("{event:?} instead of the confirmation"),
        })
        .await;
    }

    pub(crate) async fn publish(&mut self, scope: &Scope, messages: &[(&str, &str)]) -> Position {
        self.try_publish(scope, messages).await.expect("the broker takes it")
    }

    pub(crate) async fn try_publish(
        &mut self,
        scope: &Scope,
        messages: &[(&str, &str)],
    ) -> Result<Position, BrokerError> {
        let asked = self.ticket();
        let messages = messages.iter().map(|(topic, text)| Draft::new(*topic, text.as_bytes().to_vec())).collect();
        self.broker.command(Command::Publish(Publish {
            ticket: asked,
            scope: scope.clone(),
            messages,
            replicated: false,
        }));
        self.until(|event| match event {
            Event::Published { ticket, result } if ticket == asked => Some(result.map(|stored| stored.position)),
            event => panic!("{event:?} instead of the answer to {asked:?}"),
        })
        .await
    }

    /// Publishes one message for each id; an empty id means none.
    pub(crate) async fn publish_once(&mut self, scope: &Scope, ids: &[&str]) -> Stored {
        let ticket = self.ticket();
        let draft = |id: &&str| {
            let id = (!id.is_empty()).then(|| Box::from(*id));
            Draft { topic: "".into(), message: MESSAGE.as_bytes().to_vec(), id }
        };
        let messages = ids.iter().map(draft).collect();
        let publish = Publish { ticket, scope: scope.clone(), messages, replicated: false };
        self.broker.command(Command::Publish(publish));
        self.until(|event| match event {
            Event::Published { ticket: answered, result } if answered == ticket => Some(result),
            event => panic!("{event:?} instead of the answer to {ticket:?}"),
        })
        .await
        .expect("the broker takes it")
    }

    pub(crate) async fn read(&mut self, scope: &Scope, after: Option<Position>, entries_max: usize) -> History {
        let asked = self.ticket();
        self.broker.command(Command::Read { ticket: asked, scope: scope.clone(), after, entries_max });
        let result = self
            .until(|event| match event {
                Event::History { ticket, result } if ticket == asked => Some(result),
                event => panic!("{event:?} instead of the answer to {asked:?}"),
            })
            .await;
        result.expect("the broker can be read")
    }

    pub(crate) async fn note_loss(&mut self, scope: &Scope, position: Position) {
        let asked = self.ticket();
        self.broker.command(Command::Lost { ticket: asked, scope: scope.clone(), position });
        let result = self
            .until(|event| match event {
                Event::LossNoted { ticket, result } if ticket == asked => Some(result),
                event => panic!("{event:?} instead of the answer to {asked:?}"),
            })
            .await;
        result.expect("the broker takes it");
    }

    pub(crate) async fn tops(&mut self, scopes: &[Scope]) -> Vec<Option<Position>> {
        let asked = self.ticket();
        self.broker.command(Command::Tops { ticket: asked, scopes: scopes.to_vec(), renew: Vec::new() });
        let result = self
            .until(|event| match event {
                Event::Tops { ticket, result } if ticket == asked => Some(result),
                event => panic!("{event:?} instead of the answer to {asked:?}"),
            })
            .await;
        result.expect("the broker can be asked")
    }

    /// The messages that arrived while another event was awaited.
    pub(crate) fn received(&mut self) -> Vec<ReceivedMessage> {
        self.received.drain(..).collect()
    }

    /// Waits for the next message.
    pub(crate) async fn receive(&mut self) -> ReceivedMessage {
        loop {
            if let Some(received) = self.received.pop_front() {
                return received;
            }
            match self.next().await {
                Event::Message { scope, envelope } => self.received.extend(items(&scope, &envelope)),
                event => panic!("{event:?} instead of a message"),
            }
        }
    }

    pub(crate) async fn receive_many(&mut self, count: usize) -> Vec<ReceivedMessage> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.receive().await);
        }
        all
    }
}

/// The messages of one envelope, which must be complete.
pub(crate) fn items(scope: &[u8], envelope: &[u8]) -> Vec<ReceivedMessage> {
    let scope = std::str::from_utf8(scope).expect("a scope is text");
    let envelope = Envelope::parse(envelope).expect("a broker's envelopes are whole");
    let received = |item| {
        let (position, topic, message): (Position, &str, &[u8]) = item;
        let (scope, topic) = (scope.to_owned(), topic.to_owned());
        ReceivedMessage { scope, position, topic, message: Bytes::copy_from_slice(message) }
    };
    envelope.items().map(|item| received(item.expect("a broker's envelopes are whole"))).collect()
}
