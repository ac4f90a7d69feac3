//! The fleet's store: Redis, through the functions of `keyspace`. Only file here naming `redis`.
//!
//! One heartbeat task makes one call at a time, so one connection is what an instance uses. The pool's connections are multiplexed:
//! its bound of 100 is the owner's, and rarely more than one is opened.
//!
//! Cost when idle, however many are connected: two function calls per instance and heartbeat, 18 µs (renewing) and 35 µs
//! (listing 20 peers) of Redis' time as measured on 7.0.15, and the pool's own `UNWATCH` and `PING` before each.

mod commands;
mod members;
mod restores;

use std::time::Duration;

use deadpool_redis::Connection;
use keyspace::{Function, Keyspace, Library, Slot};
use redis::cmd;
use redis_topology::{CommandClient, Loading, PooledConnection, Pools, Target, call};
use tokio::time::Instant;
use wire::{InstanceId, Notice, Scope, SessionId, TenantId, Timestamp, UserId};

use crate::connection_limits::ConnectionLimits;
use crate::connection_row::RowChange;
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::load::Heartbeat;
use crate::member::MemberChange;
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceSnapshot};
use crate::restores::{LookupResult, RecordLookup};
use crate::roster::PeerHeartbeat;
use crate::session_record::ClosedSessionRecord;
use crate::store::record::{Decoded, PeerRecord, RowRecord};
use crate::store::{
    Acquired, DirectoryReply, LeaseRenewal, MEMBER_CHANGES_MAX, PresenceReader, ROW_CHANGES_MAX, Store,
};
use crate::timings::Timings;

/// An instance that died without a goodbye, and whose name nobody took again, is forgotten after this.
const FORGET_PEER_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long one wait for a wake-up lasts: what an idle instance costs Redis is one of them in this time.
const WAKEUP_WAIT: Duration = Duration::from_secs(10);

/// What a [`RedisStore`] needs to know.
#[derive(Debug, Clone)]
pub struct RedisStoreConfig {
    /// Where Redis is.
    pub target: Target,
    /// At most so many connections. The owner's default is 100.
    pub connections_max: usize,
    /// How keys are named.
    pub keyspace: Keyspace,
    /// Loaded when Redis does not know the functions.
    pub library: Library,
    /// How long things last.
    pub timings: Timings,
    /// How many may connect.
    pub limits: ConnectionLimits,
}

/// One connection of a user, as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Where.
    pub instance: InstanceId,
    /// Which.
    pub session: SessionId,
    /// Since when, by Redis' clock.
    pub since: Timestamp,
}

/// The registry in Redis.
#[derive(Debug, Clone)]
pub struct RedisStore {
    client: CommandClient,
    /// One connection that waits for a wake-up.
    wakeup: Pools,
    /// For the one call that waits for news.
    waiting: Pools,
    /// Of all our keys: they share one hash tag.
    slot: Slot,
    keyspace: Keyspace,
    timings: Timings,
    limits: ConnectionLimits,
}

impl RedisStore {
    /// A store at this address. Connects when first used.
    #[must_use]
    pub fn new(config: RedisStoreConfig) -> Self {
        let RedisStoreConfig { target, connections_max, keyspace, library, timings, limits } = config;
        let wakeup = Pools::new(target.clone(), 1, WAKEUP_WAIT + timings.call);
        let waiting = Pools::new(target.clone(), 1, timings.call + members::WAIT);
        let pools = Pools::new(target, connections_max, timings.call);
        let client = CommandClient::new(pools, library, Loading::Replace, timings.call);
        Self { client, wakeup, waiting, slot: keyspace.registry_slot(), keyspace, timings, limits }
    }

    /// Its connections, by what they are for.
    #[must_use]
    pub fn pools(&self) -> [(&'static str, &Pools); 3] {
        [("registry", self.client.pools()), ("wakeup", &self.wakeup), ("presence", &self.waiting)]
    }

    /// Where a user is connected, as of the newest changes that instances have told.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn who(&self, tenant: &TenantId, user: &UserId) -> Result<Vec<Connected>, StoreError> {
        let owner = Keyspace::owner(tenant, user);
        self.connected(Function::REGISTRY_WHO, &[&owner]).await
    }

    /// Has a user's connections closed wherever they are, or the one with this session; each instance does so when
    /// its wake-up rings. Answers which.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn kick(
        &self,
        tenant: &TenantId,
        user: &UserId,
        session: Option<SessionId>,
    ) -> Result<Vec<Connected>, StoreError> {
        let (owner, session) = (Keyspace::owner(tenant, user), session.map(|id| id.to_string()).unwrap_or_default());
        self.connected(Function::REGISTRY_KICK, &[&owner, &session]).await
    }

    /// Has a notice sent to a user's connections wherever they are, or to the one with this session. Answers which.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub async fn send(
        &self,
        tenant: &TenantId,
        user: &UserId,
        session: Option<SessionId>,
        notice: &Notice,
    ) -> Result<Vec<Connected>, StoreError> {
        let (owner, session) = (Keyspace::owner(tenant, user), session.map(|id| id.to_string()).unwrap_or_default());
        self.connected(Function::REGISTRY_SEND, &[&owner, &session, &notice.to_json()]).await
    }

    async fn connected(&self, function: Function, args: &[&str]) -> Result<Vec<Connected>, StoreError> {
        let answer = self.call(function, &[self.keyspace.peers()], args).await?;
        let read = |registration: &[String]| {
            let [instance, session, since] = registration else { return None };
            let (instance, session) = (InstanceId::parse(instance).ok()?, SessionId::parse(session)?);
            Some(Connected { instance, session, since: Timestamp(since.parse().ok()?) })
        };
        answer.chunks(3).map(read).collect::<Option<_>>().ok_or_else(|| malformed(function, &answer))
    }

    async fn call(&self, function: Function, keys: &[String], args: &[&str]) -> Result<Vec<String>, StoreError> {
        debug_assert!(args.len() >= usize::from(function.args_min), "{} has its arguments", function.name);
        Ok(self.client.ask(self.slot, call(function, keys).arg(args)).await?)
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

    fn rows_users_commands(&self, id: &InstanceId, incarnation: Incarnation) -> [String; 3] {
        let Self { keyspace, .. } = self;
        [keyspace.rows(id, incarnation), keyspace.users(id, incarnation), keyspace.commands(id, incarnation)]
    }

    fn keys_of(&self, instance: &Instance) -> [String; 5] {
        let [rows, users, commands] = self.rows_users_commands(&instance.id, instance.incarnation);
        [self.keyspace.lease(&instance.id), self.keyspace.peers(), rows, users, commands]
    }
}

fn malformed(function: Function, answer: &[String]) -> StoreError {
    StoreError::Malformed(format!("{} answered {answer:?}", function.name))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// The incarnation at the end of a token.
fn holder(token: &str) -> Option<Incarnation> {
    Incarnation::parse(token.rsplit(':').next()?)
}

// === impl Store ===

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
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["GRANTED", token, at, before] => Ok(Acquired::Granted {
                token: Token::from_store(token),
                at: Some(read_clock(at).ok_or_else(|| malformed(function, &answer))?),
                before: PeerRecord::decode(before).map(|record| record.incarnation),
            }),
            ["BUSY", token] => {
                let holder = holder(token).ok_or_else(|| malformed(function, &answer))?;
                Ok(Acquired::Busy { holder })
            }
            _ => Err(malformed(function, &answer)),
        }
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
        read_renewed(&answer).ok_or_else(|| malformed(function, &answer))
    }

    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        let grace = millis(self.timings.grace);
        let args = [token.as_str(), instance.id.as_str(), &grace];
        self.change(Function::REGISTRY_RELEASE, &self.keys_of(instance), &args).await.map(drop)
    }

    async fn wait_for_wakeup(&self, id: &InstanceId) -> Result<bool, StoreError> {
        let connected = self.wakeup.connection(self.slot, Instant::now() + self.timings.call).await;
        let PooledConnection { mut connection, node } =
            connected.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let mut wait = cmd("BLPOP");
        wait.arg(self.keyspace.wakeup(id)).arg(WAKEUP_WAIT.as_secs());
        match wait.query_async::<Option<(String, String)>>(&mut connection).await {
            Ok(woken) => {
                self.wakeup.answered(&node);
                Ok(woken.is_some())
            }
            Err(error) => {
                // It may be another server's turn, and what this one still has to say would be read by nobody.
                drop(Connection::take(connection));
                self.wakeup.failed(&node);
                Err(StoreError::Unreachable(error.to_string()))
            }
        }
    }

    async fn peers(&self) -> Result<Vec<PeerHeartbeat>, StoreError> {
        let answer = self.call(Function::REGISTRY_PEERS, &[self.keyspace.peers()], &[]).await?;
        let heartbeats = answer.chunks(3).filter_map(|entry| {
            let [id, age_ms, record] = entry else { return None };
            let heartbeat = read_heartbeat(id, age_ms, record);
            if heartbeat.is_none() {
                tracing::debug!(peer = id, record, "malformed peer record ignored");
            }
            heartbeat
        });
        Ok(heartbeats.collect())
    }

    async fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        assert!(changes.len() <= ROW_CHANGES_MAX, "a batch of rows is bounded");
        let [lease, peers, rows, users, _] = self.keys_of(instance);
        let ConnectionLimits { per_user_max, per_tenant_max, on_excess } = self.limits;
        let mut args = vec![
            token.as_str().to_owned(),
            millis(self.timings.rows),
            per_user_max.to_string(),
            per_tenant_max.to_string(),
            on_excess.as_str().to_owned(),
        ];
        for change in changes {
            args.push(change.session().to_string());
            args.extend(match change {
                RowChange::Put(_, row, latest) => {
                    [RowRecord::encode(row), row.connected_at.0.to_string(), latest.to_string()]
                }
                RowChange::Remove(_) => Default::default(),
            });
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let function = Function::REGISTRY_WRITE;
        let answer = self.change(function, &[lease, rows, users, peers], &args).await?;
        read_listed(&answer[1..]).ok_or_else(|| malformed(function, &answer))
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
        assert!(changes.len() <= MEMBER_CHANGES_MAX, "a batch of changes is bounded");
        let function = Function::PRESENCE_WRITE;
        let grace = millis(self.timings.grace);
        let mut args = vec![token.as_str(), instance.id.as_str(), &grace];
        for change in changes {
            args.extend(match change {
                MemberChange::Enter(scope, user, info) => {
                    ["+", scope.as_str(), user.as_str(), info.as_ref().map_or("", |info| info.as_str())]
                }
                MemberChange::Exit(scope, user) => ["-", scope.as_str(), user.as_str(), ""],
            });
        }
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.peers()];
        let answer = self.change(function, &keys, &args).await?;
        match answer.get(1).map(String::as_str) {
            Some("") => Ok(None),
            due => {
                let due = due.and_then(|due| due.parse().ok()).map(Duration::from_millis);
                due.map(Some).ok_or_else(|| malformed(function, &answer))
            }
        }
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

/// `OK`, the clock, the number of rows, and commands.
fn read_renewed(answer: &[String]) -> Option<LeaseRenewal> {
    let [_, at, listed @ ..] = answer else { return None };
    Some(LeaseRenewal { at: Some(read_clock(at)?), listed: read_listed(listed)? })
}

fn read_clock(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp)
}

/// The number of rows, and commands.
fn read_listed(answer: &[String]) -> Option<DirectoryReply> {
    let [rows, pairs @ ..] = answer else { return None };
    Some(DirectoryReply { rows: rows.parse().ok()?, commands: commands::read(pairs)? })
}

fn read_heartbeat(id: &str, age_ms: &str, record: &str) -> Option<PeerHeartbeat> {
    let Decoded { incarnation, number, address, load } = PeerRecord::decode(record)?;
    let instance = Instance { id: InstanceId::parse(id).ok()?, incarnation, address };
    Some(PeerHeartbeat { instance, number, age: Duration::from_millis(age_ms.parse().ok()?), load })
}
