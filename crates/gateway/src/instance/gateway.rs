//! One running instance: its threads, its start and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use connection_registry::Peers;
use message_router::{Broker, Router, RouterConfig};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, watch};

use crate::config::{BrokerConfig, CLOSE_TIMEOUT, Config, DrainConfig, Pages, Tls};
use crate::dispatch::pump::Pump;
use crate::health::Health;
use crate::health::instance_state::Phase;
use crate::host::clock::{Clock, millis};
use crate::host::descriptors;
use crate::host::mailbox::Mailbox;
use crate::host::rate::RateLimit;
use crate::host::reloadable::Reloadable;
use crate::http::listeners::{BindError, Listeners};
use crate::instance::backend::{Backend, MemoryBackend, RedisBackend};
use crate::instance::drain::{Pace, SLOT};
use crate::instance::edge_thread::{EdgeThread, Registry};
use crate::instance::fleet::Fleet;
use crate::session::rules::{Limits, Rules};
use crate::shard::departures::Departures;
use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::requests::{PumpRequest, ToShard};
use crate::shard::shared::{Registers, Shared};
use crate::shard::worker::Worker;

/// Unsent bytes for one shard at which the pump is paused.
const SHARD_INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of waiting publishes at which further publishes are refused.
const PUMP_INBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest time that shards may take to close disconnected connections. A stuck shard never closes them.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time that clients may take to answer their close frames when the instance must stop at once.
const LAST_CLOSES: Duration = Duration::from_secs(1);

/// A running gateway. Dropping it stops it at once; [`Gateway::drain`] moves its clients first.
#[derive(Debug)]
pub struct Gateway {
    listen: SocketAddr,
    admin: SocketAddr,
    health: Arc<Health>,
    hub: Hub,
    drain: DrainConfig,
    /// Notified when the admin port receives a drain request.
    leave: Arc<Notify>,
    /// The other instances, as the heartbeat task reads them.
    peers: watch::Receiver<Peers>,
    /// Notified when the peers must learn the state of this instance at once.
    wakeup: Arc<Notify>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    reloadable: ReloadableParts,
}

/// The parts of the configuration that [`Gateway::reload`] replaces, as they are shared with the threads.
#[derive(Debug)]
struct ReloadableParts {
    rules: Arc<Rules>,
    pages: Reloadable<Pages>,
    tls: Option<Tls>,
    broker: BrokerConfig,
    is_dev: bool,
}

/// A configuration that cannot take effect without a restart.
#[derive(Debug, thiserror::Error)]
#[error("the channel families have changed, and the rights of tokens depend on them: restart the gateway")]
pub struct NeedsRestart;

/// The reason why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The instance cannot listen on an address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refuses a thread or a runtime.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// The operating system refuses a handler for signals.
    #[error("signal handlers cannot be installed: {0}")]
    Signals(io::Error),
}

impl Gateway {
    /// Starts all threads and listens.
    ///
    /// # Errors
    /// If an address is in use, or a thread cannot be started. A Redis that does not answer is no error: the instance
    /// starts isolated and retries without end.
    pub fn start(config: Config) -> Result<Self, StartError> {
        match config.broker.clone() {
            BrokerConfig::Memory => Self::start_on(config, MemoryBackend),
            BrokerConfig::Redis(redis) => Self::start_on(config, RedisBackend(redis)),
        }
    }

    fn start_on<B: Backend>(config: Config, backend: B) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        let (listen, admin) = (listeners.listen_addr(), listeners.admin_addr());
        let (stop, stopped) = watch::channel(false);
        let shard = || ShardHandle { inbox: Arc::new(Mailbox::new(SHARD_INBOX_BYTES_MAX)), counters: Arc::default() };
        let hub = Hub::new((0..config.shards).map(|_| shard()).collect());
        let rules = rules(&config);
        let shared = Shared::new(config, rules, hub.clone(), stopped);
        let health = Arc::clone(&shared.health);
        let (drain, leave) = (shared.config.drain, Arc::clone(&shared.leave));
        let reloadable = ReloadableParts {
            rules: Arc::clone(&shared.rules),
            pages: shared.pages.clone(),
            tls: shared.config.tls.clone(),
            broker: shared.config.broker.clone(),
            is_dev: shared.config.dev,
        };
        let (broker, check_interval) = (backend.broker(&shared), backend.check_interval());
        let edge = EdgeThread::new(shared.clone(), listeners, backend);
        let (registry_sender, registry) = mpsc::channel();
        let thread = spawn("edge", move |runtime| runtime.block_on(edge.run(registry_sender)))?;
        let ended = || StartError::Thread(io::Error::other("the edge thread ended at once"));
        let Registry { registers, peers, wakeup } = registry.recv().map_err(|_| ended())?;
        let threads = vec![thread];
        let mut gateway = Self { listen, admin, health, hub, drain, leave, peers, wakeup, stop, threads, reloadable };
        gateway.start_shards(&shared, broker, check_interval, &registers)?;
        gateway.health.advance(Phase::Running);
        Ok(gateway)
    }

    /// The address of the main port, to which clients connect.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// The address of the admin port, for health checks and metrics.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Replaces what can be replaced while the gateway runs: the keys and rules for tokens, the pages that may connect,
    /// the certificate of the main port, and those for Redis. Connections continue: a token that was valid stays valid until it expires.
    /// In dev mode the generated key stays.
    ///
    /// # Errors
    /// If nothing can be replaced, because `config` has other channel families.
    pub fn reload(&self, config: &Config) -> Result<(), NeedsRestart> {
        let ReloadableParts { rules, pages, tls, broker, is_dev } = &self.reloadable;
        let families = rules.policies.families();
        if families != config.policies.families() {
            return Err(NeedsRestart);
        }
        if !is_dev {
            let verifier = config.auth.verifier(families.clone()).succeeding(&rules.verifier.get());
            rules.verifier.replace(verifier);
        }
        pages.replace(config.http.allowed_origins.clone().into());
        if let (Some(running), Some(new)) = (tls, &config.tls) {
            running.replace(new);
        }
        if let (BrokerConfig::Redis(running), BrokerConfig::Redis(new)) = (broker, &config.broker) {
            running.target.replace_certificates(&new.target);
        }
        Ok(())
    }

    /// Waits until an operator requests a drain at the admin port.
    pub async fn drain_requested(&self) {
        self.leave.notified().await;
    }

    /// Announces its end, refuses new clients, moves its clients to other instances, a few at a time, and stops when
    /// they are gone or the grace period has passed.
    pub async fn drain(self) {
        self.drain_until(std::future::pending()).await;
    }

    /// The same. When `hurry` is over, the remaining clients are closed at once.
    pub async fn drain_until(self, hurry: impl Future<Output = ()>) {
        let moved = async {
            self.announce().await;
            self.move_clients().await;
        };
        tokio::select! {
            () = moved => {}
            () = hurry => self.close_all().await,
        }
    }

    /// Reports that it is not ready, and accepts clients for a while: not every balancer tries a refused client at
    /// another instance, and each needs some time to read the report.
    async fn announce(&self) {
        if self.drain.delay.is_zero() {
            return;
        }
        self.health.advance(Phase::Terminating);
        self.wakeup.notify_one();
        tracing::info!(delay_ms = millis(self.drain.delay), "drain announced");
        tokio::time::sleep(self.drain.delay).await;
    }

    /// Closes all clients at once. None of them is left without a close frame, unless its socket takes nothing.
    async fn close_all(&self) {
        self.health.advance(Phase::Draining);
        self.hub.look_for_reservations();
        self.hub.shards().for_each(|shard| shard.inbox.push(ToShard::Drain(Departures::everybody()), 0));
        let mut slots = tokio::time::interval(SLOT);
        let begun = tokio::time::Instant::now();
        while self.hub.connections() > 0 && begun.elapsed() < LAST_CLOSES {
            slots.tick().await;
        }
    }

    async fn move_clients(&self) {
        self.health.advance(Phase::Draining);
        self.hub.look_for_reservations();
        self.wakeup.notify_one();
        let DrainConfig { window, grace, kill_after, delay: _ } = self.drain;
        let begun = tokio::time::Instant::now();
        let before: Vec<u64> = self.hub.shards().map(|shard| shard.counters.connections.get()).collect();
        let clients: u64 = before.iter().sum();
        let mut pace = Pace::new(window, grace - CLOSE_TIMEOUT);
        let kill_after_ms = kill_after.map(millis);
        tracing::info!(clients, window_ms = millis(window), grace_ms = millis(grace), kill_after_ms, "drain started");
        let (mut moved, mut registry) = (0, vec![0; before.len()]);
        let mut slots = tokio::time::interval(SLOT);
        while moved < clients {
            slots.tick().await;
            let takes_per_second = Fleet::of(&self.peers.borrow()).takes_per_second();
            let mut departures = pace.slot(begun.elapsed(), clients - moved, takes_per_second);
            moved += departures.count as u64;
            for ((shard, clients_here), registry) in self.hub.shards().zip(&before).zip(&mut registry) {
                let due = moved * clients_here / clients;
                let count = (due - std::mem::replace(registry, due)) as usize;
                shard.inbox.push(ToShard::Drain(departures.split(count)), 0);
            }
        }
        // Moves the remaining clients, and those that connected meanwhile.
        self.hub.shards().for_each(|shard| shard.inbox.push(ToShard::Drain(Departures::everybody()), 0));
        while self.hub.connections() > 0 && begun.elapsed() < grace {
            slots.tick().await;
        }
        let disconnected = self.hub.connections();
        // Sessions that end here leave their records, because their clients may still reconnect.
        self.hub.shards().for_each(|shard| shard.inbox.push(ToShard::DisconnectAll, 0));
        while self.hub.connections() > 0 && begun.elapsed() < grace + DISCONNECT_TIMEOUT {
            slots.tick().await;
        }
        tracing::info!(disconnected, "drain finished");
    }

    fn start_shards<B: Broker + Send + 'static>(
        &mut self,
        shared: &Shared,
        broker: B,
        check_interval: Option<Duration>,
        registers: &Registers,
    ) -> Result<(), StartError> {
        let inbox: Arc<Mailbox<PumpRequest>> = Arc::new(Mailbox::new(PUMP_INBOX_BYTES_MAX));
        let clock = Clock::start();
        let mut config = RouterConfig { policies: shared.config.policies.clone(), ..RouterConfig::default() };
        if let Some(interval) = check_interval {
            config.check_interval_ms = millis(interval);
        }
        let router = Router::new(config);
        let pump = Pump::new(broker, router, shared.clone(), Arc::clone(&inbox), clock);
        let mut pump = Some(pump);
        for index in self.hub.indexes() {
            let (shared, inbox, pump) = (shared.clone(), Arc::clone(&inbox), pump.take());
            let registers = registers.clone();
            let thread = spawn(&format!("shard-{}", index.0), move |runtime| {
                runtime.block_on(async move {
                    let worker = Worker::new(index, &shared, registers, inbox, clock);
                    // The thread of the first shard also runs the pump (see `pump`).
                    if let Some(pump) = pump {
                        tokio::task::spawn_local(pump.run(shared.stop.clone()));
                    }
                    worker.run().await;
                });
            })?;
            self.threads.push(thread);
        }
        Ok(())
    }
}

impl Drop for Gateway {
    /// Stops all threads and waits for them.
    fn drop(&mut self) {
        self.health.advance(Phase::Draining);
        self.stop.send_replace(true);
        // The edge thread is joined last: it writes the remaining records and releases the lease.
        for thread in self.threads.drain(..).rev() {
            for shard in self.hub.shards() {
                shard.inbox.push(ToShard::Stop, 0);
            }
            if thread.join().is_err() {
                tracing::error!("thread panicked");
            }
        }
    }
}

/// Starts a thread with its own runtime, and waits until the runtime exists.
fn spawn(name: &str, body: impl FnOnce(LocalRuntime) + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    let start = move || match local_runtime() {
        Err(error) => drop(ready.send(Err(error))),
        Ok(runtime) => {
            drop(ready.send(Ok(())));
            body(runtime);
        }
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(start).map_err(StartError::Thread)?;
    let started = is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")));
    started.map(|()| thread).map_err(StartError::Thread)
}

/// Creates a runtime for the calling thread. Its tasks stay on this thread and need not be `Send`.
fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Derives the rules of every session from the configuration.
pub(crate) fn rules(config: &Config) -> Rules {
    let limits = &config.limits;
    let connections_max = descriptors::connections_max(limits.connections_max);
    let unauthenticated_max = limits.unauthenticated_max.map_or(connections_max.div_ceil(4), |max| max as u64);
    let of_each_shard = |of_all: u64| (of_all / config.shards as u64).max(1) as usize;
    Rules {
        instance: config.instance.clone(),
        verifier: Reloadable::new(config.auth.verifier(config.policies.families().clone())),
        policies: config.policies.clone(),
        limits: Limits {
            message_bytes_max: limits.message_bytes_max,
            hello_bytes_max: limits.hello_bytes_max,
            message_timeout_ms: millis(limits.message_timeout),
            inbound_bytes_max: of_each_shard(limits.inbound_bytes_max as u64),
            connections_max,
            unauthenticated_max: of_each_shard(unauthenticated_max),
            messages_per_second: limits.messages_per_second,
            rate: RateLimit::new(limits.messages_per_second, limits.messages_burst),
            outbox_bytes_max: limits.outbox_bytes_max,
            backlog_bytes_max: limits.backlog_bytes_max as u64,
            write_timeout_ms: millis(limits.write_timeout),
            ping_interval_ms: millis(limits.ping_interval),
            pong_timeout_ms: millis(limits.pong_timeout),
            hello_timeout_ms: millis(limits.hello_timeout),
            expiry_grace_ms: millis(config.auth.expiry_grace),
        },
    }
}
