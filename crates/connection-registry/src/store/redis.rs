//! The store of a fleet: Redis, through the function library of `keyspace`. Only this module names the Redis client.
//!
//! A heartbeat task makes one call at a time, so that an instance uses one connection. The pool's connections are
//! multiplexed: its bound of 100 is the owner's, and rarely more than one is opened.
//!
//! Cost of an idle instance, with any number of connections: two function calls for each heartbeat, 18 µs (renewing)
//! and 35 µs (listing 20 peers) of Redis' time as measured on 7.0.15, and the pool's own `UNWATCH` and `PING` before
//! each.

mod calls;
mod commands;
mod config;
mod connected;
mod foreign_entries;
mod members;
mod records;
mod replies;
mod revocations;
mod rows;
mod wakeup;

use std::time::Duration;

use keyspace::{Function, Keyspace, Slot};
use redis_topology::{CommandClient, LibraryLoader, Loading, Pools, call};
use wire::InstanceId;

use crate::connection_limits::ConnectionLimits;
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::timings::Timings;

use self::foreign_entries::ForeignEntries;

pub use self::config::RedisStoreConfig;
pub use self::connected::Connected;
pub use self::revocations::{RevocationCursor, RevocationLog, RevocationPage};

/// The registry in Redis.
#[derive(Debug, Clone)]
pub struct RedisStore {
    client: CommandClient,
    /// One connection, which waits for a wake-up.
    wakeup: Pools,
    /// One connection, which waits for presence changes.
    waiting: Pools,
    /// Slot of all keys of the registry: they share one hash tag.
    slot: Slot,
    keyspace: Keyspace,
    timings: Timings,
    limits: ConnectionLimits,
    /// Entries of other programs that have been logged.
    foreign: ForeignEntries,
}

impl RedisStore {
    /// A store at this address. It connects at the first call.
    #[must_use]
    pub fn new(config: RedisStoreConfig) -> Self {
        let RedisStoreConfig { target, connections_max, keyspace, library, timings, limits } = config;
        let wakeup = Pools::new(target.clone(), 1, wakeup::WAIT + timings.call);
        let waiting = Pools::new(target.clone(), 1, timings.call + members::WAIT);
        let pools = Pools::new(target, connections_max, timings.call);
        let client = CommandClient::new(pools, LibraryLoader::new(library, Loading::Replace), timings.call);
        Self {
            client,
            wakeup,
            waiting,
            slot: keyspace.registry_slot(),
            keyspace,
            timings,
            limits,
            foreign: ForeignEntries::default(),
        }
    }

    /// The pools of connections, each with its name for metrics.
    #[must_use]
    pub fn pools(&self) -> [(&'static str, &Pools); 3] {
        [("registry", self.client.pools()), ("wakeup", &self.wakeup), ("presence", &self.waiting)]
    }

    async fn call(&self, function: Function, keys: &[String], args: &[&str]) -> Result<Vec<String>, StoreError> {
        debug_assert!(args.len() >= usize::from(function.args_min), "{} has its arguments", function.name);
        let answer: Vec<Vec<u8>> = self.client.ask(self.slot, call(function, keys).arg(args)).await?;
        Ok(answer.into_iter().map(text).collect())
    }

    /// Calls a function that answers `OK …` or `REFUSED …`.
    async fn change(&self, function: Function, keys: &[String], args: &[&str]) -> Result<Vec<String>, StoreError> {
        let answer = self.call(function, keys, args).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["OK", ..] => Ok(answer),
            ["REFUSED", "EXPIRED"] => Err(StoreError::Refused(Refusal::Expired)),
            ["REFUSED", "TAKEN"] => Err(StoreError::Refused(Refusal::Taken)),
            ["REFUSED", "GENERATION"] => Err(StoreError::Refused(Refusal::Generation)),
            _ => Err(malformed(function, &answer)),
        }
    }

    /// Keys of an incarnation's rows, users and commands.
    fn rows_users_commands(&self, id: &InstanceId, incarnation: Incarnation) -> [String; 3] {
        let Self { keyspace, .. } = self;
        [keyspace.rows(id, incarnation), keyspace.users(id, incarnation), keyspace.commands(id, incarnation)]
    }

    /// Keys of an instance's lease, of the peers, and of the instance's rows, users and commands.
    fn keys_of(&self, instance: &Instance) -> [String; 5] {
        let [rows, users, commands] = self.rows_users_commands(&instance.id, instance.incarnation);
        [self.keyspace.lease(&instance.id), self.keyspace.peers(), rows, users, commands]
    }
}

/// Text from Redis. Another program may have written it, in any bytes.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn malformed(function: Function, answer: &[String]) -> StoreError {
    StoreError::Malformed(format!("{} answered {answer:?}", function.name))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
