//! The thread beside the shards: it accepts, answers admin and agent, and keeps the instance's lease.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use connection_registry::{
    BadRedis, Directory, Heart, HeartConfig, HeartHandle, LeaseState, MemoryStore, RedisStore, RedisStoreConfig,
};
use keyspace::Keyspace;
use tokio::sync::watch;

use crate::admin::Admin;
use crate::agent;
use crate::allocator::{Rest, give_back};
use crate::config::{BrokerConfig, Config};
use crate::descriptors;
use crate::edge::{Edge, EdgeConfig, EdgeCounters};
use crate::handshake::Handshake;
use crate::health::Health;
use crate::issuer::Issuer;
use crate::listeners::Listeners;
use crate::metrics::{Exposition, Sources};
use crate::page::{DevTokens, Page};
use crate::shared::Shared;

/// Everything that the edge's thread does.
#[derive(Debug)]
pub(crate) struct EdgeThread {
    shared: Shared,
    listeners: Listeners,
    /// Where instances know of each other; none of them with the memory broker.
    store: Option<RedisStore>,
}

impl EdgeThread {
    pub(crate) fn new(shared: Shared, listeners: Listeners) -> Result<Self, BadRedis> {
        let store = match &shared.config.broker {
            BrokerConfig::Memory => None,
            BrokerConfig::Redis(redis) => Some(RedisStore::new(RedisStoreConfig {
                url: redis.url.clone(),
                connections_max: redis.pool_size,
                keyspace: Keyspace::new(redis.prefix.clone()),
                library: shared.library.clone(),
                timings: shared.config.registry,
            })?),
        };
        Ok(Self { shared, listeners, store })
    }

    /// Runs until the instance is told to stop. The shards need the directory before they take connections.
    pub(crate) async fn run(self, directory: mpsc::Sender<Arc<Directory>>) {
        let Self { shared, listeners, store } = self;
        let heart = HeartConfig {
            id: shared.config.instance.clone(),
            address: listeners.listen_addr().to_string().into(),
            timings: shared.config.registry,
        };
        let heart = match store {
            None => Heart::start(heart, MemoryStore::default()),
            Some(store) => Heart::start(heart, store),
        };
        // Nobody waits for it only if a shard could not be started; then the instance stops.
        drop(directory.send(Arc::clone(&heart.directory)));
        let mut stop = shared.stop.clone();
        tokio::select! {
            ended = serve(&shared, listeners, &heart) => {
                let Err(error) = ended;
                tracing::error!(%error, "the edge cannot run");
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
        heart.stop().await;
    }
}

async fn serve(shared: &Shared, listeners: Listeners, heart: &HeartHandle) -> io::Result<Infallible> {
    let Shared { config, rules, health, hub, .. } = shared;
    let listening = listeners.register()?;
    let counters = Arc::new(EdgeCounters::default());
    let shards: Vec<_> = hub.shards().map(|shard| Arc::clone(&shard.counters)).collect();
    let sources = Sources {
        shards: shards.clone(),
        pump: Arc::clone(&shared.pump),
        edge: Arc::clone(&counters),
        health: Arc::clone(health),
    };
    let admin = Admin::new(Exposition::new(sources), Arc::clone(health));
    let edge_config = EdgeConfig {
        handshake_timeout: config.limits.handshake_timeout,
        connections_max: descriptors::connections_max(config.limits.connections_max),
        tls: config.tls.clone(),
    };
    let verifier = Arc::clone(&rules.verifier);
    let handshake = Handshake::new(verifier, config.allowed_origins.clone(), config.auth.cookie.clone());
    let page = config.dev_page.then(|| dev_page(config)).flatten();
    let place = {
        let hub = hub.clone();
        move |handoff| hub.place(handoff)
    };
    let edge = Edge::new(edge_config, handshake, Arc::clone(health), page, shards, Arc::clone(&counters), place);
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
        never = watch_lease(heart.lease.clone(), health) => match never {},
        never = rest_after_storms(&counters) => match never {},
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
async fn rest_after_storms(counters: &EdgeCounters) -> Infallible {
    let mut rest = Rest::default();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        if rest.comes(counters.accepts.get()) {
            give_back();
        }
    }
}

/// Keeps `health` true to the lease.
async fn watch_lease(mut lease: watch::Receiver<LeaseState>, health: &Health) -> Infallible {
    loop {
        let held = lease.borrow_and_update().is_held(Instant::now());
        health.set_lease_held(held);
        if lease.changed().await.is_err() {
            // The heart has ended, and with it the lease.
            health.set_lease_held(false);
            std::future::pending::<()>().await;
        }
    }
}
