//! The fleet's store: Redis, through the functions of `keyspace`. Only files here name `redis`.

mod fields;
mod letters;
mod receipts;

use std::time::Duration;

use keyspace::{Function, Keyspace, Library, Slot};
use redis::{FromRedisValue, cmd};
use redis_topology::{Caller, Loading, Pools, Question, Target, Topology, call};
use wire::{Position, Scope, TenantId, UserId};

use crate::error::StoreError;
use crate::letter::{KeptLetter, Letter, LetterId};
use crate::receipt::Standing;
use crate::store::{Bounds, Store};

pub use letters::ReplayError;

/// What a [`RedisStore`] needs to know.
#[derive(Debug, Clone)]
pub struct RedisStoreConfig {
    /// Where Redis is.
    pub target: Target,
    /// At most so many connections.
    pub connections_max: usize,
    /// How keys are named.
    pub keyspace: Keyspace,
    /// Loaded when Redis does not know the functions.
    pub library: Library,
    /// Whether it may take the place of another.
    pub loading: Loading,
    /// How long one call may take.
    pub deadline: Duration,
    /// How much is kept.
    pub bounds: Bounds,
}

/// Records in Redis.
#[derive(Debug, Clone)]
pub struct RedisStore {
    caller: Caller,
    /// Scopes may be anywhere.
    is_cluster: bool,
    keyspace: Keyspace,
    bounds: Bounds,
}

impl RedisStore {
    /// A store at this address. Connects when first used.
    #[must_use]
    pub fn new(config: RedisStoreConfig) -> Self {
        let RedisStoreConfig { target, connections_max, keyspace, library, loading, deadline, bounds } = config;
        let is_cluster = matches!(target.topology(), Topology::Cluster(_));
        let caller = Caller::new(Pools::new(target, connections_max, deadline), library, loading, deadline);
        Self { caller, is_cluster, keyspace, bounds }
    }

    /// Its connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        self.caller.pools()
    }

    /// Runs a command on `key`, or several in one go.
    async fn run<T: FromRedisValue>(&self, key: &str, question: &impl Question) -> Result<T, StoreError> {
        Ok(self.caller.ask(Slot::of(key), question).await?)
    }
}

// === impl Store ===

impl Store for RedisStore {
    async fn keep(&self, letter: &Letter) -> Result<bool, StoreError> {
        let tenant = letter.tenant();
        let keys = [self.keyspace.letters(&tenant), self.keyspace.letters_seen(&tenant)];
        let mut keep = call(Function::LETTER, &keys);
        keep.arg(&*letter.mark).arg(self.bounds.entries_max);
        keep.arg(u64::try_from(self.bounds.ttl.as_millis()).unwrap_or(u64::MAX));
        keep.arg(fields::write(letter));
        let id: String = self.run(&keys[0], &keep).await?;
        Ok(!id.is_empty())
    }

    async fn letters(
        &self,
        tenant: &TenantId,
        before: Option<LetterId>,
        most: usize,
    ) -> Result<Vec<KeptLetter>, StoreError> {
        let newest = before.map_or_else(|| "+".into(), |before| format!("({before}"));
        let mut range = cmd("XREVRANGE");
        range.arg(self.keyspace.letters(tenant)).arg(newest).arg("-").arg("COUNT").arg(most);
        let entries: Vec<letters::Entry> = self.run(&self.keyspace.letters(tenant), &range).await?;
        entries.into_iter().map(|entry| letters::read(tenant, entry)).collect()
    }

    async fn letter(&self, tenant: &TenantId, id: LetterId) -> Result<Option<KeptLetter>, StoreError> {
        let mut range = cmd("XRANGE");
        range.arg(self.keyspace.letters(tenant)).arg(id.to_string()).arg(id.to_string());
        let entries: Vec<letters::Entry> = self.run(&self.keyspace.letters(tenant), &range).await?;
        entries.into_iter().next().map(|entry| letters::read(tenant, entry)).transpose()
    }

    async fn remove(&self, tenant: &TenantId, ids: &[LetterId]) -> Result<usize, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut delete = cmd("XDEL");
        delete.arg(self.keyspace.letters(tenant)).arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.run(&self.keyspace.letters(tenant), &delete).await
    }

    async fn write_receipts(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Result<u64, StoreError> {
        let mut moved = 0;
        // One way for all, or in a cluster one for each.
        let together = if self.is_cluster { 1 } else { batch.len().max(1) };
        for part in batch.chunks(together) {
            let key = self.keyspace.receipts(&part[0].0);
            let answers: Vec<u64> = self.run(&key, &self.write_call(part)).await?;
            moved += answers.iter().sum::<u64>();
        }
        Ok(moved)
    }

    async fn standing(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<Standing, StoreError> {
        let ask = self.standing_call(scope, users, most);
        receipts::read(self.run(&self.keyspace.receipts(scope), &ask).await?)
    }
}
