//! Who watches which scopes, and how they are kept true: lists from the registry's store, then what changes.
//!
//! ```text
//!   shards ─ watched, unwatched ─▶ PresenceService ─ one list at a time ─▶ store
//!   shards ◀─ lists, changes ───── PresenceService ◀─ what has changed ─── store     (while anybody watches)
//! ```
//!
//! The store tells changes in one order for all scopes, each with the place of the one before it. When one is missing,
//! the store could not be asked, or the lease is another one, everything that is watched is listed anew: then a client
//! that has been told half of it is told the whole.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use connection_registry::{
    LeaseState, Presence, PresenceBatch, PresenceCursor, PresenceReader, PresenceTransition, StoreError, Token,
};
use hashbrown::HashMap;
use message_router::{ShardIndex, ShardSet};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use wire::{PRESENCE_MEMBERS_MAX, Scope};

use crate::metrics::counters::PresenceCounters;
use crate::shard::hub::Hub;
use crate::shard::requests::{PresenceInbox, ToShard, WatchRequest};
use crate::shard::table::PresenceList;

/// Lists of one call: with all their members about 200 KiB, and some milliseconds of Redis' time.
const SCOPES_PER_CALL: usize = 8;

/// Bytes of an event in a shard's inbox at most, without the user's name.
const EVENT_BYTES: usize = wire::PRESENCE_INFO_BYTES_MAX;

/// Before the store is asked again that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Answers who is there, and passes on who comes and goes.
#[derive(Debug)]
pub(crate) struct PresenceService<S> {
    pub(crate) store: S,
    /// The members on this instance.
    pub(crate) presence: Arc<Presence>,
    pub(crate) hub: Hub,
    pub(crate) inbox: Arc<PresenceInbox>,
    pub(crate) counters: Arc<PresenceCounters>,
    pub(crate) lease: watch::Receiver<LeaseState>,
    /// How long the fleet takes to write its members anew, about.
    pub(crate) settle: Duration,
    /// Where somebody watches.
    pub(crate) watched: HashMap<Scope, ShardSet>,
    /// Where somebody waits for a list.
    pub(crate) asked: HashMap<Scope, ShardSet>,
}

/// Why the changes are not followed any more.
#[derive(Debug)]
enum Ended {
    /// There is nobody to tell.
    NobodyWatches,
    /// Some may have been missed.
    Lost,
    /// The lease is another one: what the store has may be another one's, or empty, and is written anew by everybody.
    AnotherLease,
}

impl<S: PresenceReader + Clone> PresenceService<S> {
    /// Runs for ever.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut is_lost = false;
        loop {
            while self.watched.is_empty() {
                self.take_requests().await;
            }
            let token = token_of(&self.lease.borrow_and_update());
            let Ok(snapshot) = self.store.list_members(&[], 0).await else {
                self.pause(RETRY_AFTER).await;
                is_lost = true;
                continue;
            };
            if is_lost {
                self.counters.resyncs.add(1);
                self.hub.shards().for_each(|shard| shard.inbox.push(ToShard::ResyncPresence, 0));
            }
            is_lost = match self.follow(snapshot.cursor, token).await {
                Ended::NobodyWatches => false,
                Ended::Lost => {
                    self.pause(RETRY_AFTER).await;
                    true
                }
                Ended::AnotherLease => {
                    self.pause(self.settle).await;
                    true
                }
            };
        }
    }

    /// Answers, and passes on what stands behind `cursor`.
    async fn follow(&mut self, mut cursor: PresenceCursor, token: Option<Token>) -> Ended {
        let (mut lease, inbox, store) = (self.lease.clone(), Arc::clone(&self.inbox), self.store.clone());
        let mut next = pin!(store.next_presence_batches(cursor));
        let mut requests = Vec::new();
        loop {
            if let Some(ended) = self.answer().await {
                return ended;
            }
            if self.watched.is_empty() {
                return Ended::NobodyWatches;
            }
            tokio::select! {
                () = inbox.take_all(&mut requests) => self.note(&mut requests),
                batches = &mut next => {
                    let Some(upto) = self.pass_on(cursor, batches) else { return Ended::Lost };
                    cursor = upto;
                    next.set(store.next_presence_batches(cursor));
                }
                changed = lease.changed() => {
                    if changed.is_err() {
                        return Ended::Lost; // The instance ends.
                    }
                    let now = token_of(&lease.borrow_and_update());
                    if now.is_some() && now != token {
                        return Ended::AnotherLease;
                    }
                }
            }
        }
    }

    /// Waits, and says meanwhile what this instance knows itself.
    async fn pause(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            self.answer_without_store();
            tokio::select! {
                () = self.take_requests() => {}
                () = sleep_until(end) => return,
            }
        }
    }

    async fn take_requests(&mut self) {
        let mut requests = Vec::new();
        self.inbox.take_all(&mut requests).await;
        self.note(&mut requests);
    }

    fn note(&mut self, requests: &mut Vec<(ShardIndex, WatchRequest)>) {
        for (shard, watching) in requests.drain(..) {
            match watching {
                WatchRequest::Begun(scope) => {
                    self.watched.entry(scope.clone()).or_default().insert(shard);
                    self.asked.entry(scope).or_default().insert(shard);
                }
                WatchRequest::Ended(scope) => {
                    for table in [&mut self.watched, &mut self.asked] {
                        if let Some(shards) = table.get_mut(&scope) {
                            shards.remove(shard);
                            if shards.is_empty() {
                                table.remove(&scope);
                            }
                        }
                    }
                }
            }
        }
        self.counters.watched.set(self.watched.len() as u64);
    }

    /// Gives the lists that somebody waits for.
    async fn answer(&mut self) -> Option<Ended> {
        while !self.asked.is_empty() {
            let scopes: Vec<Scope> = self.asked.keys().take(SCOPES_PER_CALL).cloned().collect();
            let Ok(snapshot) = self.store.list_members(&scopes, PRESENCE_MEMBERS_MAX).await else {
                self.answer_without_store();
                return Some(Ended::Lost);
            };
            self.counters.lists.add(scopes.len() as u64);
            for (scope, list) in scopes.into_iter().zip(snapshot.scopes) {
                self.send_list(PresenceList { scope, cursor: Some(snapshot.cursor), list });
            }
        }
        None
    }

    fn answer_without_store(&mut self) {
        let scopes: Vec<Scope> = self.asked.keys().cloned().collect();
        for scope in scopes {
            let list = self.presence.here(&scope, PRESENCE_MEMBERS_MAX);
            self.send_list(PresenceList { scope, cursor: None, list });
        }
    }

    /// Gives a list to the shards that wait for it.
    fn send_list(&mut self, listed: PresenceList) {
        let Some(shards) = self.asked.remove(&listed.scope) else { return };
        let (bytes, listed) = (listed.list.members.len() * size_of::<PresenceList>(), Arc::new(listed));
        shards
            .iter()
            .for_each(|shard| self.hub.shard(shard).inbox.push(ToShard::PresenceListed(Arc::clone(&listed)), bytes));
    }

    /// Passes on what is behind `cursor`, and says how far that goes; nothing if something is missing.
    fn pass_on(
        &mut self,
        mut cursor: PresenceCursor,
        batches: Result<Vec<PresenceBatch>, StoreError>,
    ) -> Option<PresenceCursor> {
        for batch in batches.ok()? {
            if batch.before != cursor || self.hub.shards().any(|shard| shard.inbox.is_full()) {
                return None;
            }
            cursor = batch.cursor;
            for event in batch.changes {
                let counter = if event.transition == PresenceTransition::Left {
                    &self.counters.left
                } else {
                    &self.counters.joined
                };
                counter.add(1);
                let Some((scope, shards)) = self.watched.get_key_value(&*event.scope) else { continue };
                let (scope, size) = (scope.clone(), EVENT_BYTES + event.user.as_str().len());
                let event = Arc::new(event);
                for shard in shards.iter() {
                    let changed = ToShard::PresenceChanged(scope.clone(), cursor, Arc::clone(&event));
                    self.hub.shard(shard).inbox.push(changed, size);
                }
            }
        }
        Some(cursor)
    }
}

fn token_of(lease: &LeaseState) -> Option<Token> {
    match lease {
        LeaseState::Held { token, .. } => Some(token.clone()),
        LeaseState::Lost(_) | LeaseState::Fenced => None,
    }
}

#[cfg(test)]
mod tests;
