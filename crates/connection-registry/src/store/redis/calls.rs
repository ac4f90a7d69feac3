//! The store's contract, kept by one function of the library for each call.

use std::time::Duration;

use keyspace::Function;
use wire::{InstanceId, Scope};

use super::{RedisStore, malformed, members, millis, replies};
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
use crate::store::record::PeerRecord;
use crate::store::{Acquired, DirectoryReply, LeaseRenewal, PresenceReader, Store};

/// Redis forgets an instance after this time if it died without releasing its lease and no instance took its id again.
const FORGET_PEER_AFTER: Duration = Duration::from_secs(60 * 60);

impl Store for RedisStore {
    const LEASES_END: bool = true;

    fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    async fn acquire(&self, instance: &Instance, heartbeat: Heartbeat) -> Result<Acquired, StoreError> {
        let function = Function::REGISTRY_ACQUIRE;
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.fence(), self.keyspace.peers()];
        let (incarnation, record) = (instance.incarnation.to_string(), PeerRecord::encode(instance, heartbeat));
        let (lease, forget, grace) =
            (millis(self.timings.lease), millis(FORGET_PEER_AFTER), millis(self.timings.grace));
        let args = [instance.id.as_str(), &incarnation, &lease, &record, &forget, &grace];
        let answer = self.call(function, &keys, &args).await?;
        replies::read_acquired(&answer).ok_or_else(|| malformed(function, &answer))
    }

    async fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        heartbeat: Heartbeat,
        acknowledged: u64,
    ) -> Result<LeaseRenewal, StoreError> {
        let (lease, rows) = (millis(self.timings.lease), millis(self.timings.rows));
        let (record, acknowledged) = (PeerRecord::encode(instance, heartbeat), acknowledged.to_string());
        let args = [token.as_str(), instance.id.as_str(), &lease, &rows, &record, &acknowledged];
        let function = Function::REGISTRY_RENEW;
        let answer = self.change(function, &self.keys_of(instance), &args).await?;
        replies::read_renewed(&answer).ok_or_else(|| malformed(function, &answer))
    }

    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        let grace = millis(self.timings.grace);
        let args = [token.as_str(), instance.id.as_str(), &grace];
        self.change(Function::REGISTRY_RELEASE, &self.keys_of(instance), &args).await.map(drop)
    }

    async fn wait_for_wakeup(&self, id: &InstanceId) -> Result<bool, StoreError> {
        self.wait_for_commands(id).await
    }

    async fn peers(&self) -> Result<Vec<PeerHeartbeat>, StoreError> {
        let answer = self.call(Function::REGISTRY_PEERS, &[self.keyspace.peers()], &[]).await?;
        Ok(replies::read_peers(&answer, &self.foreign))
    }

    async fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        self.write_changes(instance, token, changes).await
    }

    async fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> Result<(), StoreError> {
        self.leave(instance, token, left).await
    }

    async fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> Result<Vec<LookupResult>, StoreError> {
        self.take(instance, token, lookups).await
    }

    async fn delete_rows(&self, instance: &Instance, token: &Token, of: Incarnation) -> Result<(), StoreError> {
        let [rows, users, _] = self.rows_users_commands(&instance.id, of);
        let keys = [self.keyspace.lease(&instance.id), rows, users];
        self.change(Function::REGISTRY_DELETE, &keys, &[token.as_str()]).await.map(drop)
    }

    async fn reap(
        &self,
        instance: &Instance,
        token: &Token,
        dead: &Instance,
        number: u64,
    ) -> Result<Option<usize>, StoreError> {
        let function = Function::REGISTRY_REAP;
        let (incarnation, number) = (dead.incarnation.to_string(), number.to_string());
        let args = [token.as_str(), dead.id.as_str(), &incarnation, &number];
        let [lease, peers, rows, users, commands] = self.keys_of(dead);
        let keys = [self.keyspace.lease(&instance.id), peers, lease, rows, users, commands];
        let answer = self.change(function, &keys, &args).await?;
        match answer.get(1).map(String::as_str) {
            Some("") => Ok(None),
            Some(rows) => rows.parse().map(Some).map_err(|_| malformed(function, &answer)),
            None => Err(malformed(function, &answer)),
        }
    }

    async fn write_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> Result<Option<Duration>, StoreError> {
        self.change_members(instance, token, changes).await
    }

    async fn rewrite_members(&self, instance: &Instance, token: &Token, within: Duration) -> Result<(), StoreError> {
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.peers()];
        let args = [token.as_str(), instance.id.as_str(), &millis(within)];
        self.change(Function::PRESENCE_REWRITE, &keys, &args).await.map(drop)
    }
}

impl PresenceReader for RedisStore {
    async fn list_members(&self, scopes: &[Scope], most: usize) -> Result<PresenceSnapshot, StoreError> {
        let function = Function::PRESENCE_LIST;
        let most = most.to_string();
        let args: Vec<&str> = [most.as_str()].into_iter().chain(scopes.iter().map(Scope::as_str)).collect();
        let answer = self.call(function, &[self.keyspace.peers()], &args).await?;
        let snapshot = members::read_snapshot(&answer).filter(|snapshot| snapshot.scopes.len() == scopes.len());
        snapshot.ok_or_else(|| malformed(function, &answer))
    }

    async fn next_presence_batches(&self, after: PresenceCursor) -> Result<Vec<PresenceBatch>, StoreError> {
        self.read_presence_batches(after).await
    }
}
