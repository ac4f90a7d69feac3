//! The fleet's store: Redis, through the functions of `keyspace`. Only files here name `redis`.
//!
//! Connections come from a pool, each call has one deadline over everything it does, and a connection that broke it
//! is thrown away, not returned.

mod fields;
mod letters;
mod receipts;

use std::time::Duration;

use deadpool_redis::Connection;
use keyspace::{Function, Keyspace, Library, Loaded, Slot};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, cmd};
use redis_topology::{Held, Pools, Target, Topology};
use tokio::time::{Instant, timeout_at};
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

/// What is done when Redis does not know a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// The library is loaded in place of an older one: a gateway's.
    Replace,
    /// It is loaded only where there is none: a tool must not change the families that gateways have compiled in.
    FillGap,
}

/// Records in Redis.
#[derive(Debug, Clone)]
pub struct RedisStore {
    pools: Pools,
    /// Scopes may be anywhere.
    is_cluster: bool,
    keyspace: Keyspace,
    library: Library,
    loading: Loading,
    deadline: Duration,
    bounds: Bounds,
}

impl RedisStore {
    /// A store at this address. Connects when first used.
    #[must_use]
    pub fn new(config: RedisStoreConfig) -> Self {
        let RedisStoreConfig { target, connections_max, keyspace, library, loading, deadline, bounds } = config;
        let is_cluster = matches!(target.topology(), Topology::Cluster(_));
        let pools = Pools::new(target, connections_max, deadline);
        Self { pools, is_cluster, keyspace, library, loading, deadline, bounds }
    }

    /// Its connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Runs a command on `key`, or several in one go, within the deadline; the library is loaded first where a function
    /// is missing.
    async fn run<T: FromRedisValue>(&self, key: &str, question: &impl Question) -> Result<T, StoreError> {
        let (slot, deadline) = (Slot::of(key), Instant::now() + self.deadline);
        loop {
            let held = self.pools.connection(slot, deadline).await;
            let Held { mut connection, node } = held.map_err(|error| StoreError::Unreachable(error.to_string()))?;
            let answer = timeout_at(deadline, async {
                match question.ask(&mut connection).await {
                    Err(error) if is_missing(&error) && self.load(&mut connection).await? => {
                        question.ask(&mut connection).await
                    }
                    answer => answer,
                }
            })
            .await;
            match answer {
                Ok(Ok(answer)) => {
                    self.pools.answered(&node);
                    return Ok(answer);
                }
                // Nothing was done: another node of the cluster has the key, or will have it in a moment.
                Ok(Err(error)) if self.pools.redirected(&error, deadline).await => self.pools.answered(&node),
                Ok(Err(error)) if is_answer(&error) => {
                    self.pools.answered(&node);
                    return Err(StoreError::Rejected(error.to_string()));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedReturnType => {
                    self.pools.answered(&node);
                    return Err(StoreError::Malformed(error.to_string()));
                }
                // What it still has to say would be read by nobody, and a demoted primary must not be asked again.
                Ok(Err(_)) | Err(_) => {
                    drop(Connection::take(connection));
                    self.pools.failed(&node);
                    return Err(StoreError::NoAnswer(self.deadline));
                }
            }
        }
    }

    /// Loads the library where that is allowed. Whether there is a point in calling again.
    async fn load(&self, connection: &mut Connection) -> RedisResult<bool> {
        let version = Function::VERSION;
        let loaded: RedisResult<(u32, String)> =
            cmd(version.command()).arg(version.name).arg(0).query_async(connection).await;
        let mut load = cmd("FUNCTION");
        load.arg("LOAD");
        match loaded.map(|(version, digest)| self.library.compare(version, &digest)) {
            // The broker's link has loaded it since the call failed.
            Ok(Loaded::Same) => return Ok(true),
            Ok(Loaded::Newer) => return Ok(false),
            Ok(Loaded::Replace) if self.loading == Loading::FillGap => return Ok(false),
            Ok(Loaded::Replace) => drop(load.arg("REPLACE")),
            // There is none, or one that is not ours.
            Err(_) if self.loading == Loading::FillGap => {}
            Err(_) => drop(load.arg("REPLACE")),
        }
        load.arg(self.library.source()).exec_async(connection).await?;
        tracing::info!(digest = self.library.digest(), "loaded the function library into Redis");
        Ok(true)
    }
}

/// What may be asked of Redis; asking again does no harm.
trait Question {
    async fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T>;
}

impl Question for Cmd {
    async fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

impl Question for Pipeline {
    async fn ask<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        self.query_async(connection).await
    }
}

/// The call of a function, to be given its keys and arguments.
fn call(function: Function, keys: &[String]) -> Cmd {
    debug_assert_eq!(keys.len(), usize::from(function.keys), "{} has its keys", function.name);
    let mut call = cmd(function.command());
    call.arg(function.name).arg(keys.len()).arg(keys);
    call
}

/// Whether Redis does not know the function: it was restarted without its data, or is new.
fn is_missing(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

/// Whether Redis itself refused, and stays the one to ask.
fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => kind != ServerErrorKind::ReadOnly,
        ErrorKind::Extension => true, // OOM, MISCONF and other codes that the client has no name for
        _ => false,
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
