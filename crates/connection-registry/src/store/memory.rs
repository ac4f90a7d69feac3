//! The store of a gateway without Redis. It lives as long as the process, so its leases do not end by themselves.

mod connections;
mod members;
mod records;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::timeout;
use wire::{InstanceId, Scope, SessionId, Timestamp};

use self::registry::{Registry, incarnation};
use crate::connection_limits::ConnectionLimits;
use crate::connection_row::RowChange;
use crate::error::StoreError;
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::load::Heartbeat;
use crate::member::MemberChange;
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceSnapshot};
use crate::restores::{LookupResult, RecordLookup};
use crate::roster::PeerHeartbeat;
use crate::session_record::ClosedSessionRecord;
use crate::store::{
    Acquired, DirectoryReply, LeaseRenewal, MEMBER_CHANGES_MAX, PresenceReader, ROW_CHANGES_MAX, Store,
};
use crate::timings::Timings;

/// A wait for presence changes ends after this time.
const WAIT: Duration = Duration::from_secs(5);

/// A registry in memory. Clones are the same registry, so that several instances within one process can share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    registry: Arc<Mutex<Registry>>,
    /// Notified when members have joined or left.
    presence_changed: Arc<Notify>,
}

/// One incarnation of an instance.
type InstanceIncarnation = (InstanceId, Incarnation);

impl MemoryStore {
    /// A registry with these limits, and with the grace of members and the lifetime of records that the timings give.
    #[must_use]
    pub fn new(limits: ConnectionLimits, Timings { grace, record, .. }: Timings) -> Self {
        let registry = Registry::new(limits, grace, record);
        Self { registry: Arc::new(Mutex::new(registry)), presence_changed: Arc::default() }
    }

    /// The sessions listed for one incarnation.
    #[must_use]
    pub fn sessions(&self, id: &InstanceId, of: Incarnation) -> Vec<SessionId> {
        self.registry().connections.sessions(&(id.clone(), of))
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_members(&self, registry: &mut Registry, instance: &Instance, changes: &[MemberChange]) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        registry.change_members(&incarnation(instance), changes, Timestamp(unix_ms));
        self.presence_changed.notify_waiters();
    }

    /// The registry, if `token` is that of the instance's lease.
    fn fenced(&self, instance: &Instance, token: &Token) -> Result<MutexGuard<'_, Registry>, StoreError> {
        let registry = self.registry();
        registry.check(&instance.id, token)?;
        Ok(registry)
    }
}

impl Store for MemoryStore {
    const LEASES_END: bool = false;

    fn limits(&self) -> ConnectionLimits {
        self.registry().connections.limits()
    }

    async fn acquire(&self, instance: &Instance, heartbeat: Heartbeat) -> Result<Acquired, StoreError> {
        Ok(self.registry().acquire(instance, heartbeat))
    }

    /// No reply is lost here, so `acknowledged` is not needed.
    async fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        heartbeat: Heartbeat,
        _acknowledged: u64,
    ) -> Result<LeaseRenewal, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.receive(instance, heartbeat);
        self.change_members(&mut registry, instance, &[]);
        Ok(LeaseRenewal { at: None, listed: registry.fetch(&incarnation(instance)) })
    }

    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        self.fenced(instance, token)?.release(instance);
        Ok(())
    }

    async fn wait_for_wakeup(&self, id: &InstanceId) -> Result<bool, StoreError> {
        let wakeup = self.registry().wakeup(id);
        wakeup.notified().await;
        Ok(true)
    }

    async fn peers(&self) -> Result<Vec<PeerHeartbeat>, StoreError> {
        Ok(self.registry().peers())
    }

    async fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        assert!(changes.len() <= ROW_CHANGES_MAX, "a batch of rows is bounded");
        Ok(self.fenced(instance, token)?.write_rows(&incarnation(instance), changes))
    }

    async fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        let own = incarnation(instance);
        left.iter().for_each(|left| registry.leave_record(&own, left));
        Ok(())
    }

    async fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> Result<Vec<LookupResult>, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        let own = incarnation(instance);
        Ok(lookups.iter().map(|lookup| registry.take_record(&own, lookup)).collect())
    }

    async fn delete_rows(&self, instance: &Instance, token: &Token, of: Incarnation) -> Result<(), StoreError> {
        self.fenced(instance, token)?.remove_all(&(instance.id.clone(), of));
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
        if !registry.is_dead(dead, number) {
            return Ok(None);
        }
        let rows = registry.remove_peer(dead);
        self.change_members(&mut registry, instance, &[]);
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
        self.change_members(&mut registry, instance, changes);
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
        // The wait starts before the look, so that no change between the two is missed.
        let presence_changed = self.presence_changed.notified();
        let found = self.registry().members.behind(after);
        if !found.is_empty() || timeout(WAIT, presence_changed).await.is_err() {
            return Ok(found);
        }
        Ok(self.registry().members.behind(after))
    }
}
