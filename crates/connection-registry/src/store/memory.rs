//! The store of a gateway without Redis: it lives and dies with the process, so its leases never end.

mod members;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::timeout;
use wire::{InstanceId, Scope, SessionId, TenantId, Timestamp, UserId};

use crate::connection_limits::{ConnectionLimits, OnExcess};
use crate::connection_row::{ConnectionRow, RowChange};
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::instance_command::InstanceCommand;
use crate::lease::Token;
use crate::load::Heartbeat;
use crate::member::MemberChange;
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceSnapshot};
use crate::restores::{LookupResult, RecordLookup, RestoreRequest};
use crate::roster::PeerHeartbeat;
use crate::session_close::{CloseReason, SessionClose};
use crate::session_record::{ClosedSessionRecord, SessionRecord};
use crate::store::{
    Acquired, DirectoryReply, LeaseRenewal, MEMBER_CHANGES_MAX, PresenceReader, ROW_CHANGES_MAX, Store,
};
use crate::timings::Timings;
use members::Members;

/// Who waits for news is given an empty answer after this.
const WAIT: Duration = Duration::from_secs(5);

/// A registry in memory. Clones are the same registry: instances within one process can share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    registry: Arc<Mutex<Registry>>,
    /// Woken when members have joined or left.
    presence_changed: Arc<Notify>,
}

/// One incarnation of an instance.
type InstanceIncarnation = (InstanceId, Incarnation);

#[derive(Debug, Default)]
struct Registry {
    limits: ConnectionLimits,
    /// How long a record waits.
    kept_for: Duration,
    records: HashMap<(SessionId, TenantId, UserId), KeptRecord>,
    /// Number of the newest token.
    tokens: u64,
    leases: HashMap<InstanceId, (Token, Incarnation)>,
    /// Newest heartbeats, and when they came.
    peers: HashMap<InstanceId, (Instance, Heartbeat, Instant)>,
    rows: HashMap<InstanceIncarnation, HashMap<SessionId, ConnectionRow>>,
    /// Where each user is connected, longest first.
    registrations: HashMap<(TenantId, UserId), Vec<(SessionId, InstanceIncarnation)>>,
    /// How many connections each tenant has.
    tenants: HashMap<TenantId, usize>,
    /// Whom an instance is to close on another one's word.
    commands: HashMap<InstanceIncarnation, Vec<InstanceCommand>>,
    /// Notified when there are commands.
    wakeups: HashMap<InstanceId, Arc<Notify>>,
    members: Members,
    /// How long a member whose last connection has ended may come back.
    grace: Duration,
}

/// A session's record, or the trace of one that was taken.
#[derive(Debug)]
struct KeptRecord {
    /// When it goes.
    until: Instant,
    /// Of the connection that it is of, or that has taken it.
    since: u64,
    /// Which question has taken it.
    taken: Option<(InstanceIncarnation, u64)>,
    record: SessionRecord,
}

impl MemoryStore {
    /// A registry that keeps these limits, lets members come back and keeps records for as long as this says.
    #[must_use]
    pub fn new(limits: ConnectionLimits, Timings { grace, record, .. }: Timings) -> Self {
        let registry = Registry { limits, grace, kept_for: record, ..Registry::default() };
        Self { registry: Arc::new(Mutex::new(registry)), presence_changed: Arc::default() }
    }

    /// The sessions listed for one incarnation.
    #[must_use]
    pub fn sessions(&self, id: &InstanceId, of: Incarnation) -> Vec<SessionId> {
        self.registry().rows.get(&(id.clone(), of)).map(|rows| rows.keys().copied().collect()).unwrap_or_default()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_members(&self, registry: &mut Registry, incarnation: &InstanceIncarnation, changes: &[MemberChange]) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let grace = registry.grace;
        registry.members.change(incarnation, changes, grace, (Instant::now(), Timestamp(unix_ms)));
        self.presence_changed.notify_waiters();
    }

    /// The registry, if `token` is the instance's lease.
    fn fenced(&self, instance: &Instance, token: &Token) -> Result<MutexGuard<'_, Registry>, StoreError> {
        let registry = self.registry();
        match registry.leases.get(&instance.id) {
            Some((held, _)) if held == token => Ok(registry),
            Some(_) => Err(StoreError::Refused(Refusal::Taken)),
            None => Err(StoreError::Refused(Refusal::Expired)),
        }
    }
}

impl Registry {
    /// An instance has ended without having died: its members have the grace to come back.
    fn end_members(&mut self, ended: &Instance) {
        self.members.end(&incarnation(ended), Instant::now() + self.grace);
    }

    fn leave(&mut self, incarnation: &InstanceIncarnation, left: &ClosedSessionRecord) {
        let (now, kept_for) = (Instant::now(), self.kept_for);
        self.records.retain(|_, kept| kept.until > now);
        let ClosedSessionRecord { session, tenant, user, since, record, .. } = left.clone();
        let key = (session, tenant, user);
        let is_newest = |kept: &KeptRecord| {
            kept.since <= since.0 || kept.taken.as_ref().is_some_and(|(taker, _)| taker == incarnation)
        };
        if record.encode().is_some() && self.records.get(&key).is_none_or(is_newest) {
            self.records.insert(key, KeptRecord { until: now + kept_for, since: since.0, taken: None, record });
        }
    }

    fn take_record(
        &mut self,
        incarnation: &InstanceIncarnation,
        RecordLookup { ask, latest, number, .. }: &RecordLookup,
    ) -> LookupResult {
        let (now, kept_for) = (Instant::now(), self.kept_for);
        self.records.retain(|_, kept| kept.until > now);
        let RestoreRequest { session, tenant, user, since, .. } = ask.clone();
        let owner = (tenant.clone(), user.clone());
        let (own, mut is_awaited) = ((incarnation.clone(), *number), false);
        if let Some(kept) = self.records.get_mut(&(session, tenant, user)) {
            if kept.taken.as_ref().is_none_or(|by| *by == own) {
                (kept.until, kept.since, kept.taken) = (now + kept_for, since.0, Some(own));
                return LookupResult::Record(kept.record.clone());
            }
            is_awaited = true;
        }
        let registrations = self.registrations.get(&owner).cloned().unwrap_or_default();
        for (_, other) in registrations.into_iter().filter(|(other, of)| *other == session && of != incarnation) {
            let listed = self.rows.get(&other).and_then(|rows| rows.get(&session)).map(|row| row.connected_at);
            if listed.is_some_and(|listed| listed > *latest) {
                return LookupResult::Replaced;
            }
            is_awaited = true;
            self.command(
                &other,
                InstanceCommand::Session(SessionClose { session, why: CloseReason::Replaced }, listed),
            );
        }
        if is_awaited { LookupResult::Awaited } else { LookupResult::Nothing }
    }

    fn command(&mut self, of: &InstanceIncarnation, command: InstanceCommand) {
        let commands = self.commands.entry(of.clone()).or_default();
        if !commands.contains(&command) {
            commands.push(command);
        }
        self.wakeup(&of.0).notify_one();
    }

    fn count(&self, incarnation: &InstanceIncarnation) -> usize {
        self.rows.get(incarnation).map_or(0, HashMap::len)
    }

    fn put(
        &mut self,
        incarnation: &InstanceIncarnation,
        session: SessionId,
        (row, latest): (&ConnectionRow, Timestamp),
        closing: &mut Vec<InstanceCommand>,
    ) {
        let owner = (row.tenant.clone(), row.user.clone());
        let registrations = self.registrations.get(&owner).cloned().unwrap_or_default();
        let (same, others): (Vec<_>, Vec<_>) = registrations.into_iter().partition(|(other, _)| *other == session);
        for (session, other) in same.into_iter().filter(|(_, other)| other != incarnation) {
            let is_newer = |theirs: &ConnectionRow| theirs.connected_at.0 > latest.0;
            if self.rows.get(&other).and_then(|rows| rows.get(&session)).is_some_and(is_newer) {
                self.remove(incarnation, session);
                closing.push(InstanceCommand::Session(
                    SessionClose { session, why: CloseReason::Replaced },
                    Some(row.connected_at),
                ));
                return;
            }
            self.replace(&other, session);
        }
        let ConnectionLimits { per_user_max, per_tenant_max, on_excess } = self.limits;
        let excess = if per_user_max == 0 { 0 } else { (others.len() + 1).saturating_sub(per_user_max as usize) };
        self.remove(incarnation, session);
        if on_excess == OnExcess::CloseOldest {
            // It may be the oldest itself, where rows are written anew.
            let since = |(session, of): &(SessionId, InstanceIncarnation)| {
                self.rows.get(of).and_then(|rows| rows.get(session)).map_or(0, |row| row.connected_at.0)
            };
            let mut oldest: Vec<_> = others.into_iter().map(|other| (since(&other), Some(other))).collect();
            oldest.push((row.connected_at.0, None));
            oldest.sort_by_key(|(since, _)| *since);
            let mut goes_itself = false;
            for (_, other) in oldest.into_iter().take(excess) {
                match other {
                    Some((session, other)) => self.replace(&other, session),
                    None => goes_itself = true,
                }
            }
            if goes_itself {
                closing.push(InstanceCommand::Session(
                    SessionClose { session, why: CloseReason::Replaced },
                    Some(row.connected_at),
                ));
                return;
            }
        }
        let crowded = per_tenant_max > 0 && self.tenants.get(&owner.0).is_some_and(|n| *n >= per_tenant_max as usize);
        if crowded || (excess > 0 && on_excess == OnExcess::Reject) {
            closing.push(InstanceCommand::Session(
                SessionClose { session, why: CloseReason::TooMany },
                Some(row.connected_at),
            ));
            return;
        }
        *self.tenants.entry(owner.0.clone()).or_default() += 1;
        self.registrations.entry(owner).or_default().push((session, incarnation.clone()));
        self.rows.entry(incarnation.clone()).or_default().insert(session, row.clone());
    }

    /// Has a session closed, and counts it no more.
    fn replace(&mut self, of: &InstanceIncarnation, session: SessionId) {
        let Some(row) = self.remove(of, session) else { return };
        self.command(
            of,
            InstanceCommand::Session(SessionClose { session, why: CloseReason::Replaced }, Some(row.connected_at)),
        );
    }

    fn wakeup(&mut self, id: &InstanceId) -> Arc<Notify> {
        Arc::clone(self.wakeups.entry(id.clone()).or_default())
    }

    fn remove(&mut self, incarnation: &InstanceIncarnation, session: SessionId) -> Option<ConnectionRow> {
        let row = self.rows.get_mut(incarnation)?.remove(&session)?;
        let count = self.tenants.get_mut(&row.tenant).expect("whoever has a row is counted");
        *count -= 1;
        if *count == 0 {
            self.tenants.remove(&row.tenant);
        }
        let owner = (row.tenant.clone(), row.user.clone());
        let registrations = self.registrations.get_mut(&owner).expect("whoever has a row has a seat");
        registrations.retain(|(other, at)| *other != session || at != incarnation);
        if registrations.is_empty() {
            self.registrations.remove(&owner);
        }
        Some(row)
    }

    fn remove_all(&mut self, incarnation: &InstanceIncarnation) -> usize {
        let sessions: Vec<_> = self.rows.get(incarnation).into_iter().flat_map(HashMap::keys).copied().collect();
        sessions.iter().for_each(|session| drop(self.remove(incarnation, *session)));
        self.rows.remove(incarnation);
        self.commands.remove(incarnation);
        sessions.len()
    }
}

fn incarnation(instance: &Instance) -> InstanceIncarnation {
    (instance.id.clone(), instance.incarnation)
}

// === impl Store ===

impl Store for MemoryStore {
    const LEASES_END: bool = false;

    fn limits(&self) -> ConnectionLimits {
        self.registry().limits
    }

    async fn acquire(&self, instance: &Instance, heartbeat: Heartbeat) -> Result<Acquired, StoreError> {
        let mut registry = self.registry();
        if let Some((_, holder)) = registry.leases.get(&instance.id)
            && *holder != instance.incarnation
        {
            return Ok(Acquired::Busy { holder: *holder });
        }
        registry.tokens += 1;
        let token = Token::from_store(&format!("memory:{}:{}", registry.tokens, instance.incarnation));
        registry.leases.insert(instance.id.clone(), (token.clone(), instance.incarnation));
        let before = registry.peers.insert(instance.id.clone(), (instance.clone(), heartbeat, Instant::now()));
        if let Some((before, ..)) = before.as_ref().filter(|(before, ..)| before.incarnation != instance.incarnation) {
            registry.end_members(before);
        }
        Ok(Acquired::Granted { token, at: None, before: before.map(|(before, ..)| before.incarnation) })
    }

    /// No answer is lost here.
    async fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        heartbeat: Heartbeat,
        _acknowledged: u64,
    ) -> Result<LeaseRenewal, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.peers.insert(instance.id.clone(), (instance.clone(), heartbeat, Instant::now()));
        let incarnation = incarnation(instance);
        self.change_members(&mut registry, &incarnation, &[]);
        let commands = registry.commands.remove(&incarnation).unwrap_or_default();
        Ok(LeaseRenewal { at: None, listed: DirectoryReply { rows: registry.count(&incarnation), commands } })
    }

    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.leases.remove(&instance.id);
        registry.peers.remove(&instance.id);
        registry.remove_all(&incarnation(instance));
        registry.end_members(instance);
        Ok(())
    }

    async fn wait_for_wakeup(&self, id: &InstanceId) -> Result<bool, StoreError> {
        let wakeup = self.registry().wakeup(id);
        wakeup.notified().await;
        Ok(true)
    }

    async fn peers(&self) -> Result<Vec<PeerHeartbeat>, StoreError> {
        let registry = self.registry();
        let heartbeat = |(instance, heartbeat, at): &(Instance, Heartbeat, Instant)| {
            let age = at.elapsed();
            PeerHeartbeat { instance: instance.clone(), number: heartbeat.number, age, load: Some(heartbeat.load) }
        };
        Ok(registry.peers.values().map(heartbeat).collect())
    }

    async fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        assert!(changes.len() <= ROW_CHANGES_MAX, "a batch of rows is bounded");
        let mut registry = self.fenced(instance, token)?;
        let (incarnation, mut closing) = (incarnation(instance), Vec::new());
        for change in changes {
            match change {
                RowChange::Put(session, row, latest) => {
                    registry.put(&incarnation, *session, (row, *latest), &mut closing)
                }
                RowChange::Remove(session) => drop(registry.remove(&incarnation, *session)),
            }
        }
        Ok(DirectoryReply { rows: registry.count(&incarnation), commands: closing })
    }

    async fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        let incarnation = incarnation(instance);
        left.iter().for_each(|left| registry.leave(&incarnation, left));
        Ok(())
    }

    async fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> Result<Vec<LookupResult>, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        let incarnation = incarnation(instance);
        Ok(lookups.iter().map(|lookup| registry.take_record(&incarnation, lookup)).collect())
    }

    async fn delete_rows(&self, instance: &Instance, token: &Token, of: Incarnation) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.remove_all(&(instance.id.clone(), of));
        Ok(())
    }

    async fn reap(
        &self,
        instance: &Instance,
        token: &Token,
        dead: &Instance,
        number: u64,
    ) -> Result<Option<usize>, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        let known = registry.peers.get(&dead.id);
        let is_same = known
            .is_some_and(|(peer, heartbeat, _)| peer.incarnation == dead.incarnation && heartbeat.number == number);
        if !is_same || registry.leases.contains_key(&dead.id) {
            return Ok(None);
        }
        registry.peers.remove(&dead.id);
        let rows = registry.remove_all(&incarnation(dead));
        registry.members.end(&incarnation(dead), Instant::now());
        self.change_members(&mut registry, &incarnation(instance), &[]);
        Ok(Some(rows))
    }

    async fn write_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> Result<Option<Duration>, StoreError> {
        assert!(changes.len() <= MEMBER_CHANGES_MAX, "a batch of changes is bounded");
        let mut registry = self.fenced(instance, token)?;
        self.change_members(&mut registry, &incarnation(instance), changes);
        Ok(registry.members.due(Instant::now()))
    }

    async fn rewrite_members(&self, instance: &Instance, token: &Token, within: Duration) -> Result<(), StoreError> {
        self.fenced(instance, token)?.members.end(&incarnation(instance), Instant::now() + within);
        Ok(())
    }
}

impl PresenceReader for MemoryStore {
    async fn list_members(&self, scopes: &[Scope], most: usize) -> Result<PresenceSnapshot, StoreError> {
        let registry = self.registry();
        let scopes = scopes.iter().map(|scope| registry.members.list(scope, most)).collect();
        Ok(PresenceSnapshot { cursor: registry.members.cursor(), scopes })
    }

    async fn next_presence_batches(&self, after: PresenceCursor) -> Result<Vec<PresenceBatch>, StoreError> {
        let presence_changed = self.presence_changed.notified(); // From here on: what comes while we look is not slept through.
        let found = self.registry().members.behind(after);
        if !found.is_empty() || timeout(WAIT, presence_changed).await.is_err() {
            return Ok(found);
        }
        Ok(self.registry().members.behind(after))
    }
}
