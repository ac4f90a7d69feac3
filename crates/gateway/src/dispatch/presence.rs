//! The presence service: sends the members of watched scopes to the shards, first as lists from the registry's store,
//! then as changes.
//!
//! ```text
//!   shards ─ watched, unwatched ─▶ PresenceService ─ up to 8 lists per call ─▶ store
//!   shards ◀─ lists, changes ───── PresenceService ◀─ what has changed ─── store     (while any scope is watched)
//! ```
//!
//! The store returns changes in one order for all scopes, each with the cursor of the batch before it. If a batch is
//! missing, the store does not answer, or the lease has changed, all watched scopes are listed again. A client that
//! received only a part of the changes then receives the complete list.

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
use crate::shard::requests::PresenceList;
use crate::shard::requests::{PresenceInbox, ToShard, WatchRequest};

/// Scopes per call. Their lists with all members have about 200 KiB and take some milliseconds of Redis' time.
const SCOPES_PER_CALL: usize = 8;

/// Upper bound of the bytes of an event in a shard's inbox, without the user's name.
const EVENT_BYTES: usize = wire::PRESENCE_INFO_BYTES_MAX;

/// Time until a store that did not answer is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Answers requests for the members of scopes, and sends changes to the shards that watch them.
#[derive(Debug)]
pub(crate) struct PresenceService<S> {
    pub(crate) store: S,
    /// The members with a connection to this instance.
    pub(crate) presence: Arc<Presence>,
    pub(crate) hub: Hub,
    pub(crate) inbox: Arc<PresenceInbox>,
    pub(crate) counters: Arc<PresenceCounters>,
    pub(crate) lease: watch::Receiver<LeaseState>,
    /// Approximate time in which all instances write their members again after a change of the lease.
    pub(crate) settle: Duration,
    /// The shards that watch each scope.
    pub(crate) watched: HashMap<Scope, ShardSet>,
    /// The shards that wait for the list of each scope.
    pub(crate) asked: HashMap<Scope, ShardSet>,
}

/// The reason why following the changes ended.
#[derive(Debug)]
enum Ended {
    /// No scope is watched.
    NobodyWatches,
    /// Changes may have been missed.
    Lost,
    /// The lease has changed: Redis may have been replaced or emptied, and all instances write their members again.
    AnotherLease,
}

impl<S: PresenceReader + Clone> PresenceService<S> {
    /// Runs until the task is dropped.
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

    /// Sends lists on request, and the changes after `cursor`.
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
                        return Ended::Lost; // The instance stops.
                    }
                    let now = token_of(&lease.borrow_and_update());
                    if now.is_some() && now != token {
                        return Ended::AnotherLease;
                    }
                }
            }
        }
    }

    /// Waits. Meanwhile it answers requests with the members on this instance.
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

    /// Sends the requested lists.
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

    /// Sends a list to the shards that wait for it.
    fn send_list(&mut self, listed: PresenceList) {
        let Some(shards) = self.asked.remove(&listed.scope) else { return };
        let (bytes, listed) = (listed.list.members.len() * size_of::<PresenceList>(), Arc::new(listed));
        shards
            .iter()
            .for_each(|shard| self.hub.shard(shard).inbox.push(ToShard::PresenceListed(Arc::clone(&listed)), bytes));
    }

    /// Sends the changes after `cursor`, and returns the new cursor. Returns `None` if changes are missing or a
    /// shard's inbox is full.
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
