//! Everything that can be broken: Redis, the gateways, and the network between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyspace::Keyspace;
use tokio::time::{Instant, sleep};
use wire::Families;

use crate::failure::Failure;
use crate::fault::{Fault, Jumping};
use crate::gateway::{Gateway, Setting};
use crate::load;
use crate::namespace::Namespace;
use crate::ownership::Ownership;
use crate::proxy::Proxy;
use crate::random::Random;
use crate::redis_server::RedisServer;
use crate::wall_clock::WallClock;

const GATEWAYS: usize = 3;
const LINK_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// What runs. Gateways are dropped first: those that lose their Redis would complain.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Gateway>,
    /// A process with the name of the last of them, started when the fault wants it.
    pub(crate) twin: Option<Gateway>,
    /// Between each gateway and Redis.
    pub(crate) proxies: Vec<Proxy>,
    /// Between publishers that call Redis and Redis.
    pub(crate) calls: Proxy,
    /// Between the primary and its replica, if there is one.
    pub(crate) replication: Option<Proxy>,
    pub(crate) primary: RedisServer,
    pub(crate) replica: Option<RedisServer>,
    pub(crate) ownership: Ownership,
    /// The network of the first gateway, if it has one of its own; it speaks to Redis past its proxy then.
    namespace: Option<Namespace>,
    /// Of Redis or of the first gateway, if it is to jump.
    clock: Option<WallClock>,
    pub(crate) random: Random,
}

/// Where a scope stands, by its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Top {
    generation: u64,
    pub(crate) offset: u64,
    /// As the metadata lists it: `generation-top generation-top …`.
    earlier: String,
}

impl Top {
    /// How far this generation goes, as far as this Redis knows.
    fn of(&self, generation: u64) -> u64 {
        let prefix = format!("{generation}-");
        let listed = || self.earlier.split(' ').find_map(|text| text.strip_prefix(&prefix)?.parse().ok());
        if generation == self.generation { self.offset } else { listed().unwrap_or(0) }
    }
}

impl Cluster {
    pub(crate) async fn start(
        fault: Fault,
        program: &Path,
        directory: &Path,
        mut random: Random,
    ) -> Result<Self, Failure> {
        let directory: PathBuf = directory.to_owned();
        let namespace = if fault.needs_namespace() { Some(Namespace::start(&directory).await?) } else { None };
        let mut args: Vec<&str> = fault.redis_args().to_vec();
        let inside = namespace.as_ref().map(|namespace| namespace.redis().to_string());
        if let Some(inside) = &inside {
            args.extend(["--bind", "127.0.0.1", inside, "--protected-mode", "no"]);
        }
        let jumps = fault.jumping_clock();
        let clock = jumps.map(|_| WallClock::new(directory.join("wall.clock"))).transpose()?;
        let clock_of = |whose: Jumping| match &clock {
            Some(clock) if jumps == Some(whose) => clock.prefix(),
            _ => Ok(Vec::new()),
        };
        let primary = RedisServer::start_behind(clock_of(Jumping::Redis)?, "primary", &directory, &args).await?;
        let (mut replication, mut replica) = (None, None);
        if fault.needs_replica() {
            let proxy = Proxy::start(primary.address, random.fork()).await?;
            let port = proxy.address.port().to_string();
            let args = ["--replicaof", "127.0.0.1", &port, "--repl-timeout", "600", "--repl-ping-replica-period", "1"];
            let server = RedisServer::start("replica", &directory, &args).await?;
            let is_linked = async || server.info("replication", "master_link_status").await.is_ok_and(|s| s == "up");
            until("the replica has its primary", is_linked).await?;
            (replication, replica) = (Some(proxy), Some(server));
        }
        let calls = Proxy::start(primary.address, random.fork()).await?;
        let ownership = Ownership::watch(calls.address);
        let (mut proxies, mut gateways) = (Vec::new(), Vec::new());
        for number in 1..=GATEWAYS {
            let proxy = Proxy::start(primary.address, random.fork()).await?;
            let (local, directory) = (fault.local(), directory.as_path());
            let (mut redis, mut host, mut prefix) = (proxy.address, IpAddr::from(Ipv4Addr::LOCALHOST), Vec::new());
            if let Some(namespace) = namespace.as_ref().filter(|_| number == 1) {
                redis = SocketAddr::new(namespace.redis().into(), primary.address.port());
                (host, prefix) = (namespace.guest().into(), namespace.prefix());
            }
            if number == 1 {
                prefix.extend(clock_of(Jumping::Gateway)?);
            }
            let setting = Setting { program, redis, local, directory, prefix, host };
            gateways.push(Gateway::start(&format!("gw-{number}"), setting)?);
            proxies.push(proxy);
        }
        let mut twin = None;
        if fault == Fault::Twin {
            let (program, proxy) = (program, &proxies[GATEWAYS - 1]);
            let (local, directory) = (fault.local(), directory.join("twin"));
            std::fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
            let (prefix, host) = (Vec::new(), Ipv4Addr::LOCALHOST.into());
            let setting = Setting { program, redis: proxy.address, local, directory: &directory, prefix, host };
            let mut process = Gateway::start(&format!("gw-{GATEWAYS}"), setting)?;
            // Its place is known from now on; it comes later.
            process.process.kill()?;
            twin = Some(process);
        }
        for gateway in &mut gateways {
            gateway.await_connected().await?;
        }
        Ok(Self { gateways, twin, proxies, calls, replication, primary, replica, ownership, namespace, clock, random })
    }

    /// Everybody who speaks to Redis speaks to this one from now on.
    pub(crate) fn point_all_to(&self, target: SocketAddr) {
        for proxy in self.proxies.iter().chain([&self.calls]) {
            proxy.change(|weather| weather.target = target);
            proxy.cut(|_| true);
        }
    }

    pub(crate) fn replica(&self) -> Result<&RedisServer, Failure> {
        self.replica.as_ref().ok_or_else(|| Failure::Unproven("there is no replica".into()))
    }

    pub(crate) fn clock(&self) -> Result<&WallClock, Failure> {
        self.clock.as_ref().ok_or_else(|| Failure::Unproven("nobody has a clock that jumps".into()))
    }

    /// Which life of each gateway has its lease.
    pub(crate) fn lives(&self) -> Vec<Option<String>> {
        self.gateways.iter().map(|gateway| self.ownership.holder(&gateway.name)).collect()
    }

    pub(crate) fn namespace(&self) -> Result<&Namespace, Failure> {
        self.namespace.as_ref().ok_or_else(|| Failure::Unproven("there is no namespace".into()))
    }

    pub(crate) fn replication(&self) -> Result<&Proxy, Failure> {
        self.replication.as_ref().ok_or_else(|| Failure::Unproven("there is no replication".into()))
    }
}

/// Where every scope stands in this Redis; those that have not begun are left out.
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

/// How many of the newest generation's messages that `before` had are missing in `after`, which may have begun others.
pub(crate) fn lost(before: &[(&str, Top)], after: &[(&str, Top)]) -> u64 {
    let lost_in = |(scope, top): &(&str, Top)| {
        let now = after.iter().find(|(other, _)| other == scope);
        top.offset - now.map_or(0, |(_, now)| now.of(top.generation).min(top.offset))
    };
    before.iter().map(lost_in).sum()
}

/// The name of a scope's metadata.
pub(crate) fn meta(scope: &str) -> String {
    let scope = Families::default().parse_scope(&format!("default/{scope}")).expect("it is one of ours");
    Keyspace::default().meta(&scope)
}

/// The name of a scope's stream.
pub(crate) fn stream(scope: &str) -> String {
    let scope = Families::default().parse_scope(&format!("default/{scope}")).expect("it is one of ours");
    Keyspace::default().stream(&scope)
}

/// Polls until it is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + LINK_TIME_MAX;
    while !is_so().await {
        if Instant::now() > deadline {
            return Err(Failure::Late(what.to_owned()));
        }
        sleep(POLL).await;
    }
    Ok(())
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
        // Begun by the first publish behind the restart, which may come before we look.
        assert_eq!(lost(&before, &top(8, 4, "5-2 7-9")), 0);
        assert_eq!(lost(&before, &top(8, 4, "7-6")), 3);
        assert_eq!(lost(&before, &top(8, 4, "")), 9);
        assert_eq!(lost(&before, &[]), 9);
    }
}
