//! The store in Redis, for all instances. It calls the functions of `keyspace`. In this crate only these files use
//! `redis`.

mod dead_letters;
mod fields;
mod receipts;

use std::time::Duration;

use keyspace::{Function, Keyspace, Library, Slot};
use redis::{FromRedisValue, cmd};
use redis_topology::{CommandClient, LibraryLoader, Loading, Pools, RedisCommand, Target, Topology, call};
use wire::{Position, Scope, TenantId, UserId};

use crate::dead_letters::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::error::StoreError;
use crate::receipts::ScopeReceipts;
use crate::store::{Bounds, Store};

pub use dead_letters::ReplayError;

/// Configuration of a [`RedisStore`].
#[derive(Debug, Clone)]
pub struct RedisStoreConfig {
    /// The URL of Redis, parsed.
    pub target: Target,
    /// Most connections to Redis.
    pub connections_max: usize,
    /// The naming of keys.
    pub keyspace: Keyspace,
    /// The function library. It is loaded when Redis does not have it.
    pub library: Library,
    /// Whether it may replace another version of the library.
    pub loading: Loading,
    /// The time limit of one call.
    pub deadline: Duration,
    /// The retention of dead letters.
    pub bounds: Bounds,
}

/// Records in Redis. Clones share the same connections.
#[derive(Debug, Clone)]
pub struct RedisStore {
    client: CommandClient,
    /// Redis is a cluster: the keys of different scopes may be on different nodes.
    is_cluster: bool,
    keyspace: Keyspace,
    bounds: Bounds,
}

impl RedisStore {
    /// A store at this address. It connects when it is first used.
    #[must_use]
    pub fn new(config: RedisStoreConfig) -> Self {
        let RedisStoreConfig { target, connections_max, keyspace, library, loading, deadline, bounds } = config;
        let is_cluster = matches!(target.topology(), Topology::Cluster(_));
        let client = CommandClient::new(
            Pools::new(target, connections_max, deadline),
            LibraryLoader::new(library, loading),
            deadline,
        );
        Self { client, is_cluster, keyspace, bounds }
    }

    /// The connections of this store.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        self.client.pools()
    }

    /// Runs a command, or several in one pipeline, at the server that has `key`.
    async fn run<T: FromRedisValue>(&self, key: &str, command: &impl RedisCommand) -> Result<T, StoreError> {
        Ok(self.client.ask(Slot::of(key), command).await?)
    }
}

// === impl Store ===

impl Store for RedisStore {
    async fn keep(&self, dead_letter: &DeadLetter) -> Result<bool, StoreError> {
        let tenant = dead_letter.tenant();
        let keys = [self.keyspace.dead_letters(&tenant), self.keyspace.dead_letters_seen(&tenant)];
        let mut keep = call(Function::DEAD_LETTER, &keys);
        keep.arg(&*dead_letter.dedup_key).arg(self.bounds.entries_max);
        keep.arg(u64::try_from(self.bounds.ttl.as_millis()).unwrap_or(u64::MAX));
        keep.arg(fields::write(dead_letter));
        let id: String = self.run(&keys[0], &keep).await?;
        Ok(!id.is_empty())
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        before: Option<DeadLetterId>,
        most: usize,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let newest = before.map_or_else(|| "+".into(), |before| format!("({before}"));
        let mut range = cmd("XREVRANGE");
        range.arg(self.keyspace.dead_letters(tenant)).arg(newest).arg("-").arg("COUNT").arg(most);
        let entries: Vec<dead_letters::StreamFields> = self.run(&self.keyspace.dead_letters(tenant), &range).await?;
        entries.into_iter().map(|entry| dead_letters::read(tenant, entry)).collect()
    }

    async fn dead_letter(&self, tenant: &TenantId, id: DeadLetterId) -> Result<Option<StoredDeadLetter>, StoreError> {
        let mut range = cmd("XRANGE");
        range.arg(self.keyspace.dead_letters(tenant)).arg(id.to_string()).arg(id.to_string());
        let entries: Vec<dead_letters::StreamFields> = self.run(&self.keyspace.dead_letters(tenant), &range).await?;
        entries.into_iter().next().map(|entry| dead_letters::read(tenant, entry)).transpose()
    }

    async fn remove(&self, tenant: &TenantId, ids: &[DeadLetterId]) -> Result<usize, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut delete = cmd("XDEL");
        delete.arg(self.keyspace.dead_letters(tenant)).arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.run(&self.keyspace.dead_letters(tenant), &delete).await
    }

    async fn write_receipts(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Result<u64, StoreError> {
        let mut moved = 0;
        // All scopes in one pipeline, or in a cluster one pipeline per scope.
        let together = if self.is_cluster { 1 } else { batch.len().max(1) };
        for part in batch.chunks(together) {
            let key = self.keyspace.receipts(&part[0].0);
            let answers: Vec<u64> = self.run(&key, &self.write_call(part)).await?;
            moved += answers.iter().sum::<u64>();
        }
        Ok(moved)
    }

    async fn scope_receipts(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<ScopeReceipts, StoreError> {
        let ask = self.scope_receipts_call(scope, users, most);
        receipts::read(self.run(&self.keyspace.receipts(scope), &ask).await?)
    }
}
