//! The edge thread, which runs beside the shards: it accepts connections, answers the admin port and the agent check,
//! and keeps the instance's lease.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use connection_registry::{
    Directory, Duty, HeartbeatConfig, HeartbeatHandle, HeartbeatTask, LeaseState, Load, Loss, Peers, PresenceReader,
    SessionCommand, Store,
};
use hashbrown::HashMap;
use message_router::ShardIndex;
use records::{EitherStore, RecordWriter};
use redis_topology::Pools;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_local;

use crate::config::{Config, ENDING, LimitsConfig};
use crate::dispatch::presence::PresenceService;
use crate::health::Health;
use crate::health::instance_state::InstanceState;
use crate::health::watchdog;
use crate::host::allocator::{IdleDetector, release_memory};
use crate::http::admin::{Admin, Authorisation, Records};
use crate::http::agent;
use crate::http::edge::{AddressLimits, Edge, EdgeConfig};
use crate::http::handshake::Handshake;
use crate::http::listeners::Listeners;
use crate::http::page::{DevTokens, Page};
use crate::instance::backend::Backend;
use crate::metrics::counters::EdgeCounters;
use crate::metrics::{Exposition, Sources};
use crate::shard::hub::Hub;
use crate::shard::requests::ToShard;
use crate::shard::shared::{Registers, Shared};
use crate::transport::key_sets;

mod rebalancing;
mod revocations;

/// Longest time in which a stopping instance writes dead letters and receipts.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

const _: () = assert!(FLUSH_DEADLINE.as_secs() < ENDING.as_secs());

/// The parts of the registry that the other threads use. The registry runs on the edge thread.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) registers: Registers,
    pub(crate) peers: watch::Receiver<Peers>,
    /// Wakes the heartbeat task; see [`HeartbeatHandle::wakeup`].
    pub(crate) wakeup: Arc<Notify>,
}

/// The edge thread before it runs.
#[derive(Debug)]
pub(crate) struct EdgeThread<B> {
    shared: Shared,
    listeners: Listeners,
    backend: B,
}

impl<B: Backend> EdgeThread<B> {
    pub(crate) fn new(shared: Shared, listeners: Listeners, backend: B) -> Self {
        Self { shared, listeners, backend }
    }

    /// Runs until the instance is told to stop. Sends the registry to `registry` first, because the shards need it
    /// before they accept connections.
    pub(crate) async fn run(self, registry: Sender<Registry>) {
        let Self { shared, listeners, backend } = self;
        let heartbeat = HeartbeatConfig {
            id: shared.config.instance.clone(),
            address: listeners.listen_addr().to_string().into(),
            timings: shared.config.registry,
        };
        let (store, records) = (backend.registry(&shared), backend.records(&shared));
        let pools = B::pools(&store, &records);
        let mut heartbeat = start_heartbeat(heartbeat, store, &shared);
        // Sending fails only if a shard could not be started; then the instance stops.
        let HeartbeatHandle { directory, presence, peers, wakeup, .. } = &heartbeat;
        let registers = Registers { directory: Arc::clone(directory), presence: Arc::clone(presence) };
        drop(registry.send(Registry { registers, peers: peers.clone(), wakeup: Arc::clone(wakeup) }));
        let record_writer = RecordWriter::new(
            Arc::clone(&shared.dead_letter_queue),
            Arc::clone(&shared.receipt_buffer),
            records.clone(),
        );
        let recording = spawn_local(record(record_writer, shared.stop.clone()));
        let mut stop = shared.stop.clone();
        let connect = || backend.revocations(&shared);
        let revocations = Arc::clone(shared.rules.verifier.get().revocations());
        tokio::select! {
            never = revocations::follow(connect, &revocations, &shared.health, &shared.hub) => match never {},
            never = key_sets::keep(&shared.rules.verifier) => match never {},
            ended = serve(&shared, listeners, &mut heartbeat, records, pools) => {
                let Err(error) = ended;
                tracing::error!(%error, "edge failed");
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
        heartbeat.stop().await;
        if recording.await.is_err() {
            tracing::error!("record writer panicked");
        }
    }
}

/// Starts the heartbeat task. Starts the presence service too, if any family has presence.
fn start_heartbeat<S: Store + PresenceReader + Clone>(
    heartbeat: HeartbeatConfig,
    store: S,
    shared: &Shared,
) -> HeartbeatHandle {
    let settle = heartbeat.timings.heartbeat;
    let heartbeat = HeartbeatTask::start(heartbeat, store.clone(), load(shared));
    if shared.config.policies.have_presence() {
        let presence_service = PresenceService {
            store,
            presence: Arc::clone(&heartbeat.presence),
            hub: shared.hub.clone(),
            inbox: Arc::clone(&shared.presence_inbox),
            counters: Arc::clone(&shared.presence),
            lease: heartbeat.lease.clone(),
            settle,
            watched: HashMap::new(),
            asked: HashMap::new(),
        };
        let mut stop = shared.stop.clone();
        spawn_local(async move {
            tokio::select! {
                never = presence_service.run() => match never {},
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
    heartbeat
}

/// Returns the function that gives the instance's load to each heartbeat.
fn load(shared: &Shared) -> impl Fn() -> Load + Send + 'static {
    let (health, hub) = (Arc::clone(&shared.health), shared.hub.clone());
    let connects_per_second = shared.config.limits.connects_per_second;
    move || Load {
        connections: hub.connections(),
        connects_per_second,
        duty: duty(health.instance_state(Instant::now())),
    }
}

fn duty(instance_state: InstanceState) -> Duty {
    match instance_state {
        InstanceState::Connected => Duty::Full,
        InstanceState::Terminating | InstanceState::Draining => Duty::Draining,
        InstanceState::Starting
        | InstanceState::Connecting
        | InstanceState::LeaseLost
        | InstanceState::Isolated
        | InstanceState::Fenced
        | InstanceState::Frozen => Duty::Reduced,
    }
}

/// Writes dead letters and receipts until the instance stops, and then those that remain.
async fn record(record_writer: RecordWriter<EitherStore>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        never = record_writer.run() => match never {},
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if tokio::time::timeout(FLUSH_DEADLINE, record_writer.flush()).await.is_err() {
        tracing::warn!("dead letters and receipts lost: shutdown deadline passed");
    }
}

async fn serve(
    shared: &Shared,
    listeners: Listeners,
    heartbeat: &mut HeartbeatHandle,
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
        dead_letter_queue: Arc::clone(&shared.dead_letter_queue),
        receipt_buffer: Arc::clone(&shared.receipt_buffer),
        health: Arc::clone(health),
        pools,
    };
    let admin = {
        let records = Records::new(records, config.policies.families().clone());
        let authorisation =
            Authorisation::new(config.admin_hosts.clone(), rules.verifier.clone(), config.admin_requires_token);
        let (exposition, leave) = (Exposition::new(sources), Arc::clone(&shared.leave));
        Admin::new(authorisation, exposition, Arc::clone(health), leave, records, hub.clone())
    };
    let diverts = Rc::new(Cell::new(false));
    let edge_config = EdgeConfig {
        handshake_timeout: config.limits.handshake_timeout,
        connections_max: rules.limits.connections_max,
        connects_per_second: config.limits.connects_per_second,
        addresses: address_limits(&config.limits, rules.limits.connections_max),
        trusted_proxies: config.trusted_proxies.clone(),
        diverts: Rc::clone(&diverts),
        tls: config.tls.clone(),
        paths: config.http.paths.clone(),
    };
    let pages = shared.pages.clone();
    let handshake = Handshake::new(rules.verifier.clone(), pages, &config.http, config.auth.cookie.clone());
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
        never = rebalancing::run(shared, heartbeat.peers.clone(), &diverts, &counters) => match never {},
        never = watchdog::watch(health.watchdog()) => match never {},
        never = watch_lease(heartbeat.lease.clone(), health) => match never {},
        never = release_after_storms(&counters, &heartbeat.directory) => match never {},
        never = run_session_commands(&mut heartbeat.session_commands, &heartbeat.directory, hub) => match never {},
    }
}

/// Unless they are configured, one address gets at most half of everything.
fn address_limits(limits: &LimitsConfig, connections_max: u64) -> AddressLimits {
    AddressLimits {
        connections_max: limits.connections_per_address.map_or(connections_max.div_ceil(2), |max| max as u64),
        connects_per_second: limits.connects_per_second_per_address.unwrap_or(limits.connects_per_second.div_ceil(2)),
    }
}

fn dev_page(config: &Config) -> Option<Page> {
    let families = config.policies.families();
    match config.auth.issuer(families.clone(), None) {
        Ok(issuer) => Some(Page::new(DevTokens::new(issuer, families))),
        Err(error) => {
            tracing::warn!(%error, "dev page disabled");
            None
        }
    }
}

/// Returns memory to the operating system after a storm of connections.
async fn release_after_storms(counters: &EdgeCounters, directory: &Directory) -> Infallible {
    let mut idle_detector = IdleDetector::default();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let moves = counters.accepts.get().wrapping_add(directory.len() as u64);
        if idle_detector.is_idle(moves) {
            directory.shrink();
            release_memory();
        }
    }
}

/// Executes the session commands of the registry: closes sessions, and sends restored sessions and notices to their
/// shards.
async fn run_session_commands(
    session_commands: &mut mpsc::UnboundedReceiver<SessionCommand>,
    directory: &Directory,
    hub: &Hub,
) -> Infallible {
    // A session that has ended meanwhile needs nothing.
    let shard_of = |session| directory.get(session).map(|row| hub.shard(ShardIndex(row.shard as u8)));
    while let Some(session_command) = session_commands.recv().await {
        match session_command {
            SessionCommand::Close(closing, upto) => {
                if let Some(shard) = shard_of(closing.session) {
                    shard.inbox.push(ToShard::CloseSession(closing, upto), 0);
                }
            }
            SessionCommand::Restored(ask, restored) => {
                let shard = hub.shard(ShardIndex(ask.shard as u8));
                shard.inbox.push(ToShard::Restored(Box::new((ask, restored))), 0);
            }
            SessionCommand::Notice(sessions, notice) => {
                for session in sessions {
                    if let Some(shard) = shard_of(session) {
                        shard.inbox.push(ToShard::Notice(session, notice.clone()), notice.size());
                    }
                }
            }
        }
    }
    // The heartbeat task has ended, so the instance is stopping.
    std::future::pending().await
}

/// Copies the state of the lease to `health`. After the process was stopped, this may be late; therefore `health`
/// checks the clock itself.
async fn watch_lease(mut lease: watch::Receiver<LeaseState>, health: &Health) -> Infallible {
    loop {
        health.set_lease(&lease.borrow_and_update());
        if lease.changed().await.is_err() {
            // The heartbeat task has ended and released the lease.
            health.set_lease(&LeaseState::Lost(Loss::Released));
            std::future::pending::<()>().await;
        }
    }
}
