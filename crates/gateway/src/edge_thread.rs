//! The thread beside the shards: it accepts, answers admin and agent, and keeps the instance's lease.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use connection_registry::{
    Directory, Duty, Errand, Heart, HeartConfig, HeartHandle, LeaseState, Load, Loss, MemoryStore, Peers, RedisStore,
    RedisStoreConfig, Rolls, Store,
};
use hashbrown::HashMap;
use keyspace::Keyspace;
use message_router::ShardIndex;
use records::{EitherStore, Recorder};
use redis_topology::Pools;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_local;
use wire::ServerFrame;

use crate::admin::{Admin, Records};
use crate::agent;
use crate::allocator::{Rest, give_back};
use crate::config::{BrokerConfig, Config, ENDING, RedisConfig};
use crate::descriptors;
use crate::edge::{Edge, EdgeConfig, EdgeCounters};
use crate::handshake::Handshake;
use crate::health::Health;
use crate::hub::{Hub, ToShard};
use crate::issuer::Issuer;
use crate::listeners::Listeners;
use crate::metrics::{Exposition, Sources};
use crate::page::{DevTokens, Page};
use crate::presence::PresenceDesk;
use crate::shared::{Registers, Shared};
use crate::standing::Standing;
use crate::watchdog;

mod rebalancing;

/// How long an instance that ends keeps writing dead letters and receipts.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

const _: () = assert!(FLUSH_DEADLINE.as_secs() < ENDING.as_secs());

/// What the rest of the instance has of the registry, which lives on the edge's thread.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) registers: Registers,
    pub(crate) peers: watch::Receiver<Peers>,
    /// See [`HeartHandle::bell`].
    pub(crate) bell: Arc<Notify>,
}

/// Everything that the edge's thread does.
#[derive(Debug)]
pub(crate) struct EdgeThread {
    shared: Shared,
    listeners: Listeners,
    /// Where instances know of each other; none of them with the memory broker.
    store: Option<RedisStore>,
    /// Where letters and receipts are kept; with the memory broker, in this process.
    records: EitherStore,
}

impl EdgeThread {
    pub(crate) fn new(shared: Shared, listeners: Listeners) -> Self {
        let (store, records) = match &shared.config.broker {
            BrokerConfig::Memory => {
                (None, EitherStore::Memory(records::MemoryStore::new(shared.config.dead_letters.bounds)))
            }
            BrokerConfig::Redis(redis) => (
                Some(RedisStore::new(RedisStoreConfig {
                    target: redis.target.clone(),
                    connections_max: redis.pool_size,
                    keyspace: Keyspace::new(redis.prefix.clone()),
                    library: shared.library.clone(),
                    timings: shared.config.registry,
                    limits: shared.config.limits.fleet,
                })),
                EitherStore::Redis(Box::new(records::RedisStore::new(redis_records(&shared, redis)))),
            ),
        };
        Self { shared, listeners, store, records }
    }

    /// Runs until the instance is told to stop. The shards need the registry before they take connections.
    pub(crate) async fn run(self, registry: Sender<Registry>) {
        let Self { shared, listeners, store, records } = self;
        let heart = HeartConfig {
            id: shared.config.instance.clone(),
            address: listeners.listen_addr().to_string().into(),
            timings: shared.config.registry,
        };
        let pools = pools(store.as_ref(), &records);
        let mut heart = match store {
            None => begin(heart, MemoryStore::new(shared.config.limits.fleet, shared.config.registry), &shared),
            Some(store) => begin(heart, store, &shared),
        };
        // Nobody waits for it only if a shard could not be started; then the instance stops.
        let HeartHandle { directory, presence, peers, bell, .. } = &heart;
        let registers = Registers { directory: Arc::clone(directory), presence: Arc::clone(presence) };
        drop(registry.send(Registry { registers, peers: peers.clone(), bell: Arc::clone(bell) }));
        let recorder = Recorder::new(Arc::clone(&shared.letterbox), Arc::clone(&shared.ledger), records.clone());
        let recording = spawn_local(record(recorder, shared.stop.clone()));
        let mut stop = shared.stop.clone();
        tokio::select! {
            ended = serve(&shared, listeners, &mut heart, records, pools) => {
                let Err(error) = ended;
                tracing::error!(%error, "the edge cannot run");
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
        heart.stop().await;
        if recording.await.is_err() {
            tracing::error!("the recorder had panicked");
        }
    }
}

/// Starts the heart, and the desk of whoever watches scopes if there is anything to watch.
fn begin<S: Store + Rolls + Clone>(heart: HeartConfig, store: S, shared: &Shared) -> HeartHandle {
    let settle = heart.timings.beat;
    let heart = Heart::start(heart, store.clone(), load(shared));
    if shared.config.policies.have_presence() {
        let desk = PresenceDesk {
            store,
            presence: Arc::clone(&heart.presence),
            hub: shared.hub.clone(),
            inbox: Arc::clone(&shared.desk),
            counters: Arc::clone(&shared.presence),
            lease: heart.lease.clone(),
            settle,
            watched: HashMap::new(),
            asked: HashMap::new(),
        };
        let mut stop = shared.stop.clone();
        spawn_local(async move {
            tokio::select! {
                never = desk.run() => match never {},
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
    heart
}

/// The ways to Redis that have breakers, for metrics.
fn pools(registry: Option<&RedisStore>, records: &EitherStore) -> Vec<(&'static str, Pools)> {
    let registry = registry.into_iter().flat_map(RedisStore::pools);
    let records = match records {
        EitherStore::Redis(store) => Some(("records", store.pools())),
        EitherStore::Memory(_) => None,
    };
    registry.chain(records).map(|(calls, pools)| (calls, pools.clone())).collect()
}

/// What the instance tells its peers, asked at each beat.
fn load(shared: &Shared) -> impl Fn() -> Load + Send + 'static {
    let (health, hub) = (Arc::clone(&shared.health), shared.hub.clone());
    let connects_per_second = shared.config.limits.connects_per_second;
    move || Load { connections: hub.connections(), connects_per_second, duty: duty(health.standing(Instant::now())) }
}

fn duty(standing: Standing) -> Duty {
    match standing {
        Standing::Connected => Duty::Full,
        Standing::Draining => Duty::Draining,
        Standing::Starting | Standing::Leaseless | Standing::Isolated | Standing::Fenced | Standing::Frozen => {
            Duty::Reduced
        }
    }
}

/// Writes letters and receipts until the instance stops, and then what still goes.
async fn record(recorder: Recorder<EitherStore>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        never = recorder.run() => match never {},
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if tokio::time::timeout(FLUSH_DEADLINE, recorder.flush()).await.is_err() {
        tracing::warn!("dead letters and receipts are lost: there was no time to write them");
    }
}

fn redis_records(shared: &Shared, redis: &RedisConfig) -> records::RedisStoreConfig {
    records::RedisStoreConfig {
        target: redis.target.clone(),
        connections_max: redis.pool_size,
        keyspace: Keyspace::new(redis.prefix.clone()),
        library: shared.library.clone(),
        loading: records::Loading::Replace,
        deadline: redis.reply_deadline,
        bounds: shared.config.dead_letters.bounds,
    }
}

async fn serve(
    shared: &Shared,
    listeners: Listeners,
    heart: &mut HeartHandle,
    records: EitherStore,
    pools: Vec<(&'static str, Pools)>,
) -> io::Result<Infallible> {
    let Shared { config, rules, health, hub, .. } = shared;
    let listening = listeners.register()?;
    let counters = Arc::new(EdgeCounters::default());
    let sources = Sources {
        shards: hub.shards().map(|shard| Arc::clone(&shard.counters)).collect(),
        pump: Arc::clone(&shared.pump),
        edge: Arc::clone(&counters),
        presence: Arc::clone(&shared.presence),
        letterbox: Arc::clone(&shared.letterbox),
        ledger: Arc::clone(&shared.ledger),
        health: Arc::clone(health),
        pools,
    };
    let admin = {
        let records = Records::new(records, config.policies.families().clone());
        Admin::new(Exposition::new(sources), Arc::clone(health), Arc::clone(&shared.leave), records, hub.clone())
    };
    let diverts = Rc::new(Cell::new(false));
    let edge_config = EdgeConfig {
        handshake_timeout: config.limits.handshake_timeout,
        connections_max: descriptors::connections_max(config.limits.connections_max),
        connects_per_second: config.limits.connects_per_second,
        diverts: Rc::clone(&diverts),
        tls: config.tls.clone(),
    };
    let verifier = Arc::clone(&rules.verifier);
    let handshake = Handshake::new(verifier, config.allowed_origins.clone(), config.auth.cookie.clone());
    let page = config.dev_page.then(|| dev_page(config)).flatten();
    let edge = Edge::new(edge_config, handshake, Arc::clone(health), page, hub.clone(), Arc::clone(&counters));
    let agent = async {
        match listening.agent {
            Some(listener) => agent::run(listener, Arc::clone(health)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = edge.run(listening.main) => match never {},
        never = admin.run(listening.admin) => match never {},
        never = agent => match never {},
        never = rebalancing::run(shared, heart.peers.clone(), &diverts, &counters) => match never {},
        never = watchdog::watch(health) => match never {},
        never = watch_lease(heart.lease.clone(), health) => match never {},
        never = rest_after_storms(&counters, &heart.directory) => match never {},
        never = run_errands(&mut heart.errands, &heart.directory, hub) => match never {},
    }
}

fn dev_page(config: &Config) -> Option<Page> {
    let families = config.policies.families();
    match Issuer::new(&config.auth, families.clone(), None) {
        Ok(issuer) => Some(Page::new(DevTokens::new(issuer, families))),
        Err(error) => {
            tracing::warn!(%error, "there is no page");
            None
        }
    }
}

/// Gives back what a storm of handshakes took.
async fn rest_after_storms(counters: &EdgeCounters, directory: &Directory) -> Infallible {
    let mut rest = Rest::default();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let moves = counters.accepts.get().wrapping_add(directory.len() as u64);
        if rest.comes(moves) {
            directory.shrink();
            give_back();
        }
    }
}

/// Has done what the registry says about sessions: closes those that must go, sends what they are to be told.
async fn run_errands(errands: &mut mpsc::UnboundedReceiver<Errand>, directory: &Directory, hub: &Hub) -> Infallible {
    // One that has gone meanwhile is nobody's business.
    let shard_of = |session| directory.get(session).map(|row| hub.shard(ShardIndex(row.shard as u8)));
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Close(closing, upto) => {
                if let Some(shard) = shard_of(closing.session) {
                    shard.inbox.push(ToShard::Dismiss(closing, upto), 0);
                }
            }
            Errand::Restored(ask, restored) => {
                let shard = hub.shard(ShardIndex(ask.shard as u8));
                shard.inbox.push(ToShard::Restored(Box::new((ask, restored))), 0);
            }
            Errand::Notice(sessions, notice) => {
                let frame = ServerFrame::Notice(notice).encode();
                for session in sessions {
                    if let Some(shard) = shard_of(session) {
                        shard.inbox.push(ToShard::Notice(session, frame.clone()), frame.bytes().len());
                    }
                }
            }
        }
    }
    // The heart has ended, and the instance with it.
    std::future::pending().await
}

/// Keeps `health` true to the lease. After a sleep it may be told late; so `health` looks at the clock itself.
async fn watch_lease(mut lease: watch::Receiver<LeaseState>, health: &Health) -> Infallible {
    loop {
        health.set_lease(&lease.borrow_and_update());
        if lease.changed().await.is_err() {
            // The heart has ended, and with it the lease.
            health.set_lease(&LeaseState::Lost(Loss::Released));
            std::future::pending::<()>().await;
        }
    }
}
