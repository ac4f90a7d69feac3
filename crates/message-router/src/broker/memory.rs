//! The broker within one process, for development without Redis and for tests.
//!
//! ```text
//!   MemoryBroker ──┐ command            ┌─▶ queue ─▶ next_event
//!   MemoryBroker ──┴─▶ MemoryStore ─────┴─▶ queue ─▶ next_event
//!                        └ MemoryHistory: the kept messages of each scope
//! ```
//!
//! It keeps the whole contract of [`Broker`]: positions, pages, trimming and expiry are those of Redis. Several handles
//! on one [`MemoryStore`] relate to each other as several gateways on one Redis do.

mod ids;
mod memory_history;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use tokio::sync::Notify;
use wire::{BATCH_MESSAGES_MAX, Envelope, Scope, Timestamp};

use super::{Broker, BrokerError, Command, Draft, Event, Publish, Stored};
use crate::route::Policies;
use memory_history::MemoryHistory;

/// Configuration of a [`MemoryStore`].
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// The retention of each family.
    pub policies: Policies,
    /// Start of this process in seconds since 1970: the upper part of its first generation.
    pub unix_seconds: u64,
    /// The lower 16 bits of the first generation, so that two processes that start in the same second differ.
    pub random: u16,
    /// Returns milliseconds since 1970, for retention and for the times of messages.
    pub now_ms: fn() -> u64,
    /// Most bytes of history in all scopes together. Above this limit the scope with the oldest last publish loses its
    /// messages first, oldest message first.
    pub history_bytes_max: usize,
    /// Most bytes of messages that wait for one handle. Above this limit the handle is disconnected, as Redis does with
    /// a slow subscriber: it receives `Down` and `Up`, and nothing is subscribed any more.
    pub queue_bytes_max: usize,
}

impl MemoryConfig {
    /// The default limits: 64 MiB of history, 32 MiB of queue (Redis' own limit for a subscriber).
    #[must_use]
    pub fn new(policies: Policies, unix_seconds: u64, random: u16, now_ms: fn() -> u64) -> Self {
        let (history_bytes_max, queue_bytes_max) = (64 * 1024 * 1024, 32 * 1024 * 1024);
        Self { policies, unix_seconds, random, now_ms, history_bytes_max, queue_bytes_max }
    }
}

/// The state that the handles of one process share. It is dropped with the last of them.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<Mutex<Shared>>);

/// One handle on a [`MemoryStore`], like the connection of one gateway to Redis.
#[derive(Debug)]
pub struct MemoryBroker {
    store: MemoryStore,
    id: HandleId,
    wake: Arc<Notify>,
}

type HandleId = u64;

#[derive(Debug)]
struct Shared {
    history: MemoryHistory,
    now_ms: fn() -> u64,
    queue_bytes_max: usize,
    /// Number of the newest handle.
    last_id: HandleId,
    handles: HashMap<HandleId, Handle>,
    /// The subscribed handles of each scope.
    subscribers: HashMap<Scope, Vec<HandleId>>,
}

#[derive(Debug)]
struct Handle {
    queue: VecDeque<Event>,
    /// Bytes of the messages in `queue`. Answers are not counted: their number is bounded by the number of commands.
    queue_bytes: usize,
    scopes: HashSet<Scope>,
    wake: Arc<Notify>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        let generation = config.unix_seconds << 16 | u64::from(config.random);
        Self(Arc::new(Mutex::new(Shared {
            history: MemoryHistory::new(config.policies, generation, config.history_bytes_max),
            now_ms: config.now_ms,
            queue_bytes_max: config.queue_bytes_max,
            last_id: 0,
            handles: HashMap::new(),
            subscribers: HashMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("nothing panics while it holds the store")
    }
}

// === impl MemoryBroker ===

impl MemoryBroker {
    /// Connects one more handle. Its first event is `Up`.
    #[must_use]
    pub fn new(store: &MemoryStore) -> Self {
        let wake = Arc::new(Notify::new());
        let mut shared = store.lock();
        shared.last_id += 1;
        let id = shared.last_id;
        let queue = VecDeque::from([Event::Up]);
        shared.handles.insert(id, Handle { queue, queue_bytes: 0, scopes: HashSet::new(), wake: Arc::clone(&wake) });
        drop(shared);
        Self { store: store.clone(), id, wake }
    }
}

impl Broker for MemoryBroker {
    fn command(&mut self, command: Command) {
        let mut shared = self.store.lock();
        let now_ms = (shared.now_ms)();
        match command {
            Command::Subscribe(scope) => shared.subscribe(self.id, scope, now_ms),
            Command::Unsubscribe(scope) => shared.unsubscribe(self.id, &scope),
            Command::Read { ticket, scope, after, entries_max } => {
                let result = Ok(shared.history.read(&scope, after, entries_max, now_ms));
                shared.push_event(self.id, Event::History { ticket, result });
            }
            Command::Tops { ticket, scopes, .. } => {
                let result = Ok(scopes.iter().map(|scope| shared.history.top(scope)).collect());
                shared.push_event(self.id, Event::Tops { ticket, result });
            }
            Command::Publish(Publish { ticket, scope, messages, replicated: _ }) => {
                let result = shared.publish(&scope, messages, now_ms);
                shared.push_event(self.id, Event::Published { ticket, result });
            }
            // Nothing is ever lost here as long as the process runs, so there is nothing to record.
            Command::Lost { ticket, .. } => shared.push_event(self.id, Event::LossNoted { ticket, result: Ok(()) }),
            Command::Reset(reason) => shared.disconnect(self.id, reason),
        }
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_next_event() {
                return event;
            }
            // `Notify` keeps a wake-up that came after the look into the queue, and passes it on when this future is
            // dropped.
            self.wake.notified().await;
        }
    }

    fn try_next_event(&mut self) -> Option<Event> {
        let mut shared = self.store.lock();
        let handle = shared.handles.get_mut(&self.id)?;
        let event = handle.queue.pop_front()?;
        handle.queue_bytes -= queued_bytes(&event);
        Some(event)
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        let mut shared = self.store.lock();
        if let Some(handle) = shared.handles.remove(&self.id) {
            handle.scopes.iter().for_each(|scope| shared.forget_subscriber(self.id, scope));
        }
    }
}

// === impl Shared ===

impl Shared {
    fn subscribe(&mut self, id: HandleId, scope: Scope, now_ms: u64) {
        let Some(handle) = self.handles.get_mut(&id) else { return };
        if handle.scopes.insert(scope.clone()) {
            self.history.pin(&scope, now_ms);
            self.subscribers.entry(scope.clone()).or_default().push(id);
        }
        self.push_event(id, Event::Subscribed(scope));
    }

    fn unsubscribe(&mut self, id: HandleId, scope: &Scope) {
        if self.handles.get_mut(&id).is_some_and(|handle| handle.scopes.remove(scope)) {
            self.forget_subscriber(id, scope);
        }
    }

    fn forget_subscriber(&mut self, id: HandleId, scope: &Scope) {
        self.history.unpin(scope);
        if let Some(subscribers) = self.subscribers.get_mut(scope) {
            subscribers.retain(|subscriber| *subscriber != id);
            if subscribers.is_empty() {
                self.subscribers.remove(scope);
            }
        }
    }

    fn publish(&mut self, scope: &Scope, messages: Vec<Draft>, now_ms: u64) -> Result<Stored, BrokerError> {
        if !(1..=BATCH_MESSAGES_MAX).contains(&messages.len()) {
            return Err(BrokerError::Wrong(format!("a publish carries 1 to {BATCH_MESSAGES_MAX} messages")));
        }
        let first = self.history.next_position(scope, now_ms);
        let (mut next, mut last, mut fresh) = (first, first, Vec::with_capacity(messages.len()));
        for mut draft in messages {
            let id = draft.id.take();
            if let Some(known) = id.as_ref().and_then(|id| self.history.known(scope, id, now_ms)) {
                last = known;
                continue;
            }
            if let Some(id) = id {
                self.history.keep_id(scope, id, next, now_ms);
            }
            (last, next) = (next, next.next());
            fresh.push(draft);
        }
        if fresh.is_empty() {
            return Ok(Stored { duplicate: true, ..Stored::at(last) });
        }
        let items = fresh.iter().map(|draft| (&*draft.topic, draft.message.as_slice()));
        let envelope = Bytes::from(Envelope::write(first, Timestamp(now_ms), items));
        self.history.store(scope, fresh, now_ms);
        let name = Bytes::copy_from_slice(scope.as_str().as_bytes());
        for id in self.subscribers.get(scope).cloned().unwrap_or_default() {
            self.push_event(id, Event::Message { scope: name.clone(), envelope: envelope.clone() });
        }
        Ok(Stored::at(last))
    }

    fn push_event(&mut self, id: HandleId, event: Event) {
        let Some(handle) = self.handles.get_mut(&id) else { return };
        handle.queue_bytes += queued_bytes(&event);
        handle.queue.push_back(event);
        handle.wake.notify_one();
        if handle.queue_bytes > self.queue_bytes_max {
            self.disconnect(id, "more was waiting for this subscriber than its queue holds".into());
        }
    }

    /// Disconnects a handle: drops its unread messages and reports `Down` and `Up`. Answers stay, because each command
    /// has one.
    fn disconnect(&mut self, id: HandleId, reason: String) {
        let Some(handle) = self.handles.get_mut(&id) else { return };
        let is_answer = |event: &Event| match event {
            Event::History { .. } | Event::Tops { .. } | Event::LossNoted { .. } | Event::Published { .. } => true,
            Event::Up | Event::Down(_) | Event::Subscribed(_) | Event::Lost(_) | Event::Message { .. } => false,
        };
        handle.queue.retain(is_answer);
        handle.queue_bytes = 0;
        handle.queue.push_back(Event::Down(reason));
        handle.queue.push_back(Event::Up);
        handle.wake.notify_one();
        for scope in std::mem::take(&mut handle.scopes) {
            self.forget_subscriber(id, &scope);
        }
    }
}

fn queued_bytes(event: &Event) -> usize {
    match event {
        Event::Message { scope, envelope } => scope.len() + envelope.len() + size_of::<Event>(),
        Event::Up
        | Event::Down(_)
        | Event::Subscribed(_)
        | Event::Lost(_)
        | Event::History { .. }
        | Event::Tops { .. }
        | Event::LossNoted { .. }
        | Event::Published { .. } => 0,
    }
}
