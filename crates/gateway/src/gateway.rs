//! One running instance: its threads, how it starts, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use connection_registry::{BadRedis, Directory};
use keyspace::Keyspace;
use message_router::{
    BadRedisUrl, Broker, MemoryBroker, MemoryConfig, MemoryStore, RedisBroker, RedisBrokerConfig, Router, RouterConfig,
    ShardIndex,
};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{BrokerConfig, Config, RedisConfig};
use crate::edge_thread::EdgeThread;
use crate::health::{Health, Phase};
use crate::hub::worker::Worker;
use crate::hub::{FromShard, Hub, ShardHandle, ToShard};
use crate::listeners::{BindError, Listeners};
use crate::mailbox::Mailbox;
use crate::pump::Pump;
use crate::rate::RateLimit;
use crate::rules::{Limits, Rules};
use crate::shared::Shared;

/// What waits for one shard before the pump is held back.
const SHARD_INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What clients' publishes may hold before more are refused.
const PUMP_INBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Clients of an instance that goes away are asked to come back elsewhere spread over this time.
const DRAIN_SPREAD_MS: u64 = 5_000;
/// And cut when they have not left after this.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// A running gateway. Dropping it stops it at once; [`Gateway::drain`] is the gentle way.
#[derive(Debug)]
pub struct Gateway {
    listen: SocketAddr,
    admin: SocketAddr,
    health: Arc<Health>,
    hub: Hub,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The Redis URL cannot be used.
    #[error("redis.url: {0}")]
    Redis(#[from] BadRedisUrl),
    /// The registry's settings cannot be used.
    #[error("redis.url: {0}")]
    Registry(#[from] BadRedis),
    /// The operating system refuses a thread or a runtime.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

impl Gateway {
    /// Starts all threads and listens.
    ///
    /// # Errors
    /// When an address is taken, or Redis' address cannot be used. That Redis does not answer is no error: the
    /// instance starts isolated and tries for ever.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        let (listen, admin) = (listeners.listen_addr(), listeners.admin_addr());
        let (stop, stopped) = watch::channel(false);
        let shard = || ShardHandle { inbox: Arc::new(Mailbox::new(SHARD_INBOX_BYTES_MAX)), counters: Arc::default() };
        let hub = Hub::new((0..config.shards).map(|_| shard()).collect());
        let shared = Shared {
            rules: Arc::new(rules(&config)),
            library: config.policies.library(),
            health: Arc::new(Health::new(config.shards, Instant::now())),
            hub: hub.clone(),
            pump: Arc::default(),
            stop: stopped,
            config: Arc::new(config),
        };
        let health = Arc::clone(&shared.health);
        let mut gateway = Self { listen, admin, health, hub, stop, threads: Vec::new() };
        let edge = EdgeThread::new(shared.clone(), listeners)?;
        let (tell, told) = mpsc::channel();
        gateway.spawn("edge", move |runtime| runtime.block_on(edge.run(tell)))?;
        let ended = || StartError::Thread(io::Error::other("the edge ended at once"));
        let directory = told.recv().map_err(|_| ended())?;
        match shared.config.broker.clone() {
            BrokerConfig::Memory => {
                let policies = shared.config.policies.clone();
                let store = MemoryStore::new(MemoryConfig::new(policies, unix_ms() / 1_000, random_u16(), unix_ms));
                gateway.start_shards(&shared, MemoryBroker::new(&store), &directory)?;
            }
            BrokerConfig::Redis(redis) => {
                let broker = RedisBroker::new(redis_broker(&shared, &redis)?);
                gateway.start_shards(&shared, broker, &directory)?;
            }
        }
        gateway.health.advance(Phase::Running);
        Ok(gateway)
    }

    /// Where clients connect.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where health and metrics are asked for.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Turns new clients away, sends those it has elsewhere, and stops when they are gone or their time is up.
    pub async fn drain(self) {
        self.health.advance(Phase::Draining);
        tracing::info!(connections = self.hub.connections(), "draining");
        for shard in self.hub.shards() {
            shard.inbox.push(ToShard::Drain { spread_ms: DRAIN_SPREAD_MS }, 0);
        }
        let deadline = tokio::time::Instant::now() + DRAIN_GRACE;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while self.hub.connections() > 0 && tokio::time::Instant::now() < deadline {
            look.tick().await;
        }
        tracing::info!(cut = self.hub.connections(), "drained");
    }

    fn start_shards<B: Broker + Send + 'static>(
        &mut self,
        shared: &Shared,
        broker: B,
        directory: &Arc<Directory>,
    ) -> Result<(), StartError> {
        let inbox: Arc<Mailbox<(ShardIndex, FromShard)>> = Arc::new(Mailbox::new(PUMP_INBOX_BYTES_MAX));
        let clock = Clock::start();
        let router = Router::new(RouterConfig { policies: shared.config.policies.clone(), ..RouterConfig::default() });
        let pump = Pump::new(broker, router, shared.clone(), Arc::clone(&inbox), clock);
        let mut pump = Some(pump);
        for index in self.hub.indexes() {
            let (shared, inbox, pump) = (shared.clone(), Arc::clone(&inbox), pump.take());
            let directory = Arc::clone(directory);
            self.spawn(&format!("shard-{}", index.0), move |runtime| {
                runtime.block_on(async move {
                    let worker = Worker::new(index, &shared, directory, inbox, clock);
                    // The first shard's thread carries the pump too (see `pump`).
                    if let Some(pump) = pump {
                        tokio::task::spawn_local(pump.run(shared.stop.clone()));
                    }
                    worker.run().await;
                });
            })?;
        }
        Ok(())
    }

    /// Starts a thread with a runtime of its own, and waits until it has one.
    fn spawn(&mut self, name: &str, body: impl FnOnce(LocalRuntime) + Send + 'static) -> Result<(), StartError> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let start = move || match local_runtime() {
            Err(error) => drop(ready.send(Err(error))),
            Ok(runtime) => {
                drop(ready.send(Ok(())));
                body(runtime);
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(start).map_err(StartError::Thread)?;
        self.threads.push(thread);
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once"))).map_err(StartError::Thread)
    }
}

impl Drop for Gateway {
    /// Stops all threads and waits for them.
    fn drop(&mut self) {
        self.health.advance(Phase::Draining);
        self.stop.send_replace(true);
        // The shards last: until then the registry may still take rows out.
        for thread in self.threads.drain(..).rev() {
            for shard in self.hub.shards() {
                shard.inbox.push(ToShard::Stop, 0);
            }
            if thread.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
    }
}

/// A runtime for the thread that calls it: tasks stay there, and need not be `Send`.
fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

fn rules(config: &Config) -> Rules {
    let limits = &config.limits;
    Rules {
        instance: config.instance.clone(),
        verifier: Arc::new(config.auth.verifier(config.policies.families().clone())),
        policies: config.policies.clone(),
        limits: Limits {
            message_bytes_max: limits.message_bytes_max,
            messages_per_second: limits.messages_per_second,
            rate: RateLimit::new(limits.messages_per_second, limits.messages_burst),
            outbox_bytes_max: limits.outbox_bytes_max,
            ping_interval_ms: millis(limits.ping_interval),
            pong_timeout_ms: millis(limits.pong_timeout),
            hello_timeout_ms: millis(limits.hello_timeout),
        },
    }
}

fn redis_broker(shared: &Shared, redis: &RedisConfig) -> Result<RedisBrokerConfig, BadRedisUrl> {
    let keyspace = Keyspace::new(redis.prefix.clone());
    let (instance, library) = (shared.config.instance.clone(), shared.library.clone());
    let mut broker = RedisBrokerConfig::new(&redis.url, keyspace, instance, library)?;
    broker.probe_interval_ms = millis(redis.probe_interval);
    broker.reply_deadline_ms = millis(redis.reply_deadline);
    Ok(broker)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn random_u16() -> u16 {
    getrandom::u32().map_or_else(|_| std::process::id() as u16, |bits| bits as u16)
}
