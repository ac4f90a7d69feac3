//! The parts that a fault can break: Redis, the gateways, and the network between them.

use std::net::SocketAddr;
use std::path::Path;

use keyspace::Keyspace;
use test_support::Random;
use test_support::haproxy::GATEWAYS;

use crate::balancer::Balancer;
use crate::entrance::{Entrance, Via};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::fault::{Fault, Jumping};
use crate::gateway::{Gateway, Setting};
use crate::load;
use crate::namespace::Namespace;
use crate::ownership::Ownership;
use crate::process;
use crate::proxy::Proxy;
use crate::redis_sentinels::RedisSentinels;
use crate::redis_server::{REPLICA_ARGS, RedisServer};
use crate::wall_clock::WallClock;

/// The running parts. Gateways are dropped first: a gateway that loses its Redis would log errors.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Gateway>,
    /// A process with the id of the last gateway. The fault starts it.
    pub(crate) twin: Option<Gateway>,
    /// HAProxy in front of the gateways, unless clients connect to them directly.
    pub(crate) balancer: Option<Balancer>,
    /// The proxies between each gateway and Redis. With Sentinels nothing uses them.
    pub(crate) proxies: Vec<Proxy>,
    /// The proxy between Redis and the publishers that call it.
    pub(crate) calls: Proxy,
    /// The proxy between the primary and its replica, if there is a replica.
    pub(crate) replication: Option<Proxy>,
    pub(crate) primary: RedisServer,
    pub(crate) replica: Option<RedisServer>,
    /// The Sentinels that watch both servers, if the fault needs them.
    sentinels: Option<RedisSentinels>,
    pub(crate) ownership: Ownership,
    /// The network namespace of the first gateway, if it has one. It then reaches Redis without its proxy.
    namespace: Option<Namespace>,
    /// The clock of Redis or of the first gateway, if the fault moves it.
    clock: Option<WallClock>,
    pub(crate) random: Random,
}

/// The newest position of a scope, from its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Top {
    generation: u64,
    pub(crate) offset: u64,
    /// The earlier generations as the metadata lists them: `generation-top generation-top …`.
    earlier: String,
}

impl Top {
    /// The last offset of this generation that this Redis knows.
    fn of(&self, generation: u64) -> u64 {
        let prefix = format!("{generation}-");
        let listed = || self.earlier.split(' ').find_map(|text| text.strip_prefix(&prefix)?.parse().ok());
        if generation == self.generation { self.offset } else { listed().unwrap_or(0) }
    }
}

/// The Redis servers and the proxies between them.
struct Stores {
    primary: RedisServer,
    replica: Option<RedisServer>,
    replication: Option<Proxy>,
    sentinels: Option<RedisSentinels>,
}

impl Stores {
    async fn start(
        fault: Fault,
        namespace: Option<&Namespace>,
        prefix: Vec<String>,
        directory: &Path,
        random: &mut Random,
    ) -> Result<Self, Failure> {
        if fault.needs_sentinels() {
            let (primary, replica, sentinels) = RedisSentinels::start(directory, random).await?;
            return Ok(Self { primary, replica: Some(replica), replication: None, sentinels: Some(sentinels) });
        }
        let mut args: Vec<&str> = fault.redis_args().to_vec();
        let inside = namespace.map(|namespace| namespace.redis().to_string());
        if let Some(inside) = &inside {
            args.extend(["--bind", "127.0.0.1", inside, "--protected-mode", "no"]);
        }
        let primary = RedisServer::start_behind(prefix, "primary", directory, &args).await?;
        if !fault.needs_replica() {
            return Ok(Self { primary, replica: None, replication: None, sentinels: None });
        }
        let proxy = Proxy::start(primary.address, random.fork()).await?;
        let port = proxy.address.port().to_string();
        let args = [&["--replicaof", "127.0.0.1", &port], &REPLICA_ARGS[..]].concat();
        let replica = RedisServer::start("replica", directory, &args).await?;
        replica.until_linked().await?;
        Ok(Self { primary, replica: Some(replica), replication: Some(proxy), sentinels: None })
    }
}

impl Cluster {
    pub(crate) async fn start(
        fault: Fault,
        via: Via,
        environment: &Environment,
        directory: &Path,
        mut random: Random,
    ) -> Result<Self, Failure> {
        let namespace = if fault.needs_namespace() { Some(Namespace::start(directory).await?) } else { None };
        let jumps = fault.jumping_clock();
        let clock = jumps.map(|_| WallClock::new(directory.join("wall.clock"))).transpose()?;
        let clock_of = |whose: Jumping| match &clock {
            Some(clock) if jumps == Some(whose) => clock.prefix(),
            _ => Ok(Vec::new()),
        };
        let prefix = clock_of(Jumping::Redis)?;
        let stores = Stores::start(fault, namespace.as_ref(), prefix, directory, &mut random).await?;
        let Stores { primary, replica, replication, sentinels } = stores;
        let calls = Proxy::start(primary.address, random.fork()).await?;
        let ownership = Ownership::watch(calls.address);
        let (mut proxies, mut gateways) = (Vec::new(), Vec::new());
        for index in 0..GATEWAYS {
            let proxy = Proxy::start(primary.address, random.fork()).await?;
            let (mut redis, mut setting) = (proxy.address, Setting::new(fault, environment, directory));
            if index == 0 {
                if let Some(namespace) = &namespace {
                    redis = SocketAddr::new(namespace.redis().into(), primary.address.port());
                    (setting.host, setting.prefix) = (namespace.guest().into(), namespace.prefix());
                }
                setting.prefix.extend(clock_of(Jumping::Gateway)?);
            }
            let url = sentinels.as_ref().map_or_else(|| format!("redis://{redis}"), |sentinels| sentinels.url(index));
            gateways.push(Gateway::start(&format!("gw-{}", index + 1), &url, setting)?);
            proxies.push(proxy);
        }
        let twin = match fault {
            Fault::Twin => Some(start_twin(environment, directory, &proxies[GATEWAYS - 1])?),
            _ => None,
        };
        for gateway in &mut gateways {
            gateway.await_connected().await?;
        }
        if let Some(sentinels) = &sentinels {
            sentinels.until_met().await?;
        }
        let balancer = match via {
            Via::Haproxy => Some(Balancer::start(&environment.haproxy, directory, &gateways).await?),
            Via::Direct => None,
        };
        Ok(Self {
            gateways,
            twin,
            balancer,
            proxies,
            calls,
            replication,
            primary,
            replica,
            sentinels,
            ownership,
            namespace,
            clock,
            random,
        })
    }

    /// The entrance through which clients and publishers connect.
    pub(crate) fn entrance(&self) -> Entrance {
        let all = self.gateways.iter().chain(&self.twin);
        let gateways = all.map(|gateway| (gateway.name.clone(), gateway.address)).collect();
        Entrance::new(gateways, self.balancer.as_ref().map(|balancer| balancer.address))
    }

    /// From now on all gateways and publishers connect to this Redis.
    pub(crate) fn point_all_to(&self, target: SocketAddr) {
        for proxy in self.proxies.iter().chain([&self.calls]) {
            point(proxy, target);
        }
    }

    /// From now on the publishers that call Redis connect to this Redis.
    pub(crate) fn point_calls_to(&self, target: SocketAddr) {
        point(&self.calls, target);
    }

    pub(crate) fn replica(&self) -> Result<&RedisServer, Failure> {
        self.replica.as_ref().ok_or_else(|| Failure::Unproven("there is no replica".into()))
    }

    pub(crate) fn sentinels(&self) -> Result<&RedisSentinels, Failure> {
        self.sentinels.as_ref().ok_or_else(|| Failure::Unproven("there are no Sentinels".into()))
    }

    pub(crate) fn clock(&self) -> Result<&WallClock, Failure> {
        self.clock.as_ref().ok_or_else(|| Failure::Unproven("nobody has a clock that jumps".into()))
    }

    /// The incarnation of each gateway that holds its lease.
    pub(crate) fn incarnation_ids(&self) -> Vec<Option<String>> {
        self.gateways.iter().map(|gateway| self.ownership.holder(&gateway.name)).collect()
    }

    pub(crate) fn namespace(&self) -> Result<&Namespace, Failure> {
        self.namespace.as_ref().ok_or_else(|| Failure::Unproven("there is no namespace".into()))
    }

    pub(crate) fn replication(&self) -> Result<&Proxy, Failure> {
        self.replication.as_ref().ok_or_else(|| Failure::Unproven("there is no replication".into()))
    }
}

/// Reserves the address of a process with the id of the last gateway. The process starts later.
fn start_twin(environment: &Environment, directory: &Path, proxy: &Proxy) -> Result<Gateway, Failure> {
    let directory = directory.join("twin");
    std::fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
    let url = format!("redis://{}", proxy.address);
    let mut twin = Gateway::start(&format!("gw-{GATEWAYS}"), &url, Setting::new(Fault::Twin, environment, &directory))?;
    process::kill(&mut twin.process)?;
    Ok(twin)
}

/// From now on this proxy connects to `target`. Open connections are closed.
fn point(proxy: &Proxy, target: SocketAddr) {
    proxy.change(|conditions| (conditions.target, conditions.is_cut) = (target, false));
    proxy.cut();
}

/// The newest position of every scope in this Redis, without the scopes that have not begun.
pub(crate) async fn tops(server: &RedisServer) -> Result<Vec<(&'static str, Top)>, Failure> {
    let mut tops = Vec::new();
    for scope in load::SCOPES {
        let fields: (Option<u64>, Option<u64>, Option<String>) =
            server.ask(&["HMGET", &meta(scope), "g", "o", "e"]).await?;
        if let (Some(generation), Some(offset), earlier) = fields {
            tops.push((scope, Top { generation, offset, earlier: earlier.unwrap_or_default() }));
        }
    }
    Ok(tops)
}

/// The number of messages of the newest generation in `before` that are missing in `after`, which may have begun new
/// generations.
pub(crate) fn lost(before: &[(&str, Top)], after: &[(&str, Top)]) -> u64 {
    let lost_in = |(scope, top): &(&str, Top)| {
        let now = after.iter().find(|(other, _)| other == scope);
        top.offset - now.map_or(0, |(_, now)| now.of(top.generation).min(top.offset))
    };
    before.iter().map(lost_in).sum()
}

/// The Redis key of a scope's metadata.
pub(crate) fn meta(scope: &str) -> String {
    let scope = load::families().parse_scope(&format!("default/{scope}")).expect("it is one of ours");
    Keyspace::default().meta(&scope)
}

/// The Redis key of a scope's stream.
pub(crate) fn stream(scope: &str) -> String {
    let scope = load::families().parse_scope(&format!("default/{scope}")).expect("it is one of ours");
    Keyspace::default().stream(&scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(generation: u64, offset: u64, earlier: &str) -> Vec<(&'static str, Top)> {
        vec![("system", Top { generation, offset, earlier: earlier.into() })]
    }

    #[test]
    fn what_is_lost_is_counted_over_generations() {
        let before = top(7, 9, "");
        assert_eq!(lost(&before, &top(7, 6, "")), 3);
        assert_eq!(lost(&before, &top(7, 12, "")), 0);
        // The first publish after the restart began this generation. It can come before the positions are read.
        assert_eq!(lost(&before, &top(8, 4, "5-2 7-9")), 0);
        assert_eq!(lost(&before, &top(8, 4, "7-6")), 3);
        assert_eq!(lost(&before, &top(8, 4, "")), 9);
        assert_eq!(lost(&before, &[]), 9);
    }
}
