//! A primary and its replica, three Sentinels that watch them, and the proxies between them.
//!
//! ```text
//!   gateways ────────────────▶ Sentinels       the first two gateways reach the first Sentinel through `far`
//!   Sentinels ──▶ `peers` ───▶ Sentinels       one proxy in front of each, the address that it announces
//!   all ────────▶ `fronts` ──▶ both servers    one proxy in front of each, the address that it announces
//! ```
//!
//! The Sentinels decide which server becomes the primary.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use test_support::Random;

use crate::failure::Failure;
use crate::polling::until;
use crate::proxy::{Proxy, Traffic};
use crate::redis_server::{REPLICA_ARGS, RedisServer};

/// The name of the primary in the Sentinels' configuration.
const MASTER: &str = "main";
const NAMES: [&str; 3] = ["sentinel-1", "sentinel-2", "sentinel-3"];
/// Number of Sentinels that must agree that the primary is down.
const QUORUM: usize = 2;
/// How long a server may be silent. A loaded machine does not delay one for so long, so that only the fault causes a
/// failover.
const PATIENT_MS: &str = "120000";
/// How long a server may be silent while a failover is expected.
const IMPATIENT_MS: &str = "2000";
/// Sentinels send a hello every second and query the role of servers every second. A busy machine does not make them
/// doubt their clock. The defaults are 2 s, 10 s and 2 s.
const PACE: [&str; 8] = ["SENTINEL", "DEBUG", "PUBLISH-PERIOD", "1000", "INFO-PERIOD", "1000", "TILT-TRIGGER", "20000"];
/// An address where nothing listens.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

#[derive(Debug)]
pub(crate) struct RedisSentinels {
    servers: Vec<RedisServer>,
    /// The proxies in front of the primary and of the replica.
    pub(crate) fronts: [Proxy; 2],
    /// The proxies in front of each Sentinel, used by the other two.
    peers: Vec<Proxy>,
    /// The proxy in front of the first Sentinel, used by the first two gateways.
    pub(crate) far: Proxy,
}

impl RedisSentinels {
    /// Starts the primary, its replica, and Sentinels that do not know each other yet.
    pub(crate) async fn start(
        directory: &Path,
        random: &mut Random,
    ) -> Result<(RedisServer, RedisServer, Self), Failure> {
        let fronts = [Proxy::start(NOWHERE, random.fork()).await?, Proxy::start(NOWHERE, random.fork()).await?];
        let [first, second] = fronts.each_ref().map(|front| front.address.port().to_string());
        let primary = RedisServer::start("primary", directory, &announced(&first)).await?;
        fronts[0].change(|conditions| conditions.target = primary.address);
        let args = [&announced(&second)[..], &["--replicaof", "127.0.0.1", &first], &REPLICA_ARGS].concat();
        let replica = RedisServer::start("replica", directory, &args).await?;
        fronts[1].change(|conditions| conditions.target = replica.address);
        replica.until_linked().await?;
        let (mut servers, mut peers) = (Vec::new(), Vec::new());
        for name in NAMES {
            let peer = Proxy::start(NOWHERE, random.fork()).await?;
            let config = format!(
                "sentinel monitor {MASTER} 127.0.0.1 {} {QUORUM}\n\
                 sentinel down-after-milliseconds {MASTER} {PATIENT_MS}\n\
                 sentinel failover-timeout {MASTER} 10000\n\
                 sentinel announce-ip 127.0.0.1\n\
                 sentinel announce-port {}\n",
                fronts[0].address.port(),
                peer.address.port()
            );
            let server = RedisServer::start_sentinel(name, directory, &config).await?;
            let _: String = server.ask(&PACE).await?;
            peer.change(|conditions| conditions.target = server.address);
            servers.push(server);
            peers.push(peer);
        }
        let far = Proxy::start(servers[0].address, random.fork()).await?;
        Ok((primary, replica, Self { servers, fronts, peers, far }))
    }

    /// The URL in the configuration of gateway `index`. All URLs name the same Sentinels in the same order.
    pub(crate) fn url(&self, index: usize) -> String {
        let first = if index < 2 { self.far.address } else { self.servers[0].address };
        let others = self.servers[1..].iter().map(|server| server.address);
        let nodes: Vec<_> = std::iter::once(first).chain(others).map(|address| address.to_string()).collect();
        format!("redis+sentinel://{}/{MASTER}", nodes.join(","))
    }

    /// Waits until all Sentinels know each other and the replica. Before that, no failover is possible.
    pub(crate) async fn until_met(&self) -> Result<(), Failure> {
        for server in &self.servers {
            let knows = async |field: &str, count: &str| field_of(server, field).await.is_ok_and(|text| text == count);
            let all = async || knows("num-slaves", "1").await && knows("num-other-sentinels", "2").await;
            until("the Sentinels know each other and the replica", all).await?;
        }
        Ok(())
    }

    /// From now on a server that is silent for two seconds is considered dead.
    pub(crate) async fn expect_a_failure(&self) -> Result<(), Failure> {
        for server in &self.servers {
            let set = ["SENTINEL", "SET", MASTER, "down-after-milliseconds", IMPATIENT_MS];
            let _: String = server.ask(&set).await?;
        }
        Ok(())
    }

    /// Makes the first Sentinel fail over although the primary is well, as an operator does before maintenance.
    pub(crate) async fn fail_over(&self) -> Result<(), Failure> {
        let server = &self.servers[0];
        // A Sentinel refuses a replica from which it has had no reply for a while.
        let is_begun = async || server.ask::<String>(&["SENTINEL", "FAILOVER", MASTER]).await.is_ok();
        until("the first Sentinel begins a failover", is_begun).await
    }

    /// Nothing that the first Sentinel learns reaches the other two until [`Self::reconnect`].
    pub(crate) async fn isolate(&self) -> Result<(), Failure> {
        self.fronts
            .iter()
            .for_each(|front| front.change(|conditions| conditions.unread = Some(Traffic::SentinelHello)));
        for (server, peer) in self.servers.iter().zip(&self.peers).skip(1) {
            // A Sentinel that sees a replica report "primary" for four of these periods makes it a replica again.
            let _: String = server.ask(&["SENTINEL", "DEBUG", "PUBLISH-PERIOD", "60000"]).await?;
            peer.change(|conditions| conditions.is_cut = true);
            peer.cut();
        }
        Ok(())
    }

    pub(crate) fn reconnect(&self) {
        self.fronts.iter().for_each(|front| front.change(|conditions| conditions.unread = None));
        self.peers.iter().for_each(|peer| peer.change(|conditions| conditions.is_cut = false));
    }

    /// The port of the primary, according to each Sentinel.
    pub(crate) async fn named(&self) -> Result<Vec<u16>, Failure> {
        let mut ports = Vec::new();
        for server in &self.servers {
            let (_, port): (String, u16) = server.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
            ports.push(port);
        }
        Ok(ports)
    }

    /// Waits until the first `count` Sentinels name the replica and have announced it to their listeners.
    pub(crate) async fn until_switched(&self, count: usize) -> Result<(), Failure> {
        let wanted = self.fronts[1].address.port();
        let has_said = |server: &RedisServer| server.log().contains("+switch-master");
        let is_so = async || {
            let is_named = self.named().await.is_ok_and(|ports| ports[..count].iter().all(|port| *port == wanted));
            is_named && self.servers[..count].iter().all(has_said)
        };
        until("the Sentinels have made the replica the primary", is_so).await
    }
}

fn announced(port: &str) -> [&str; 4] {
    ["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", port]
}

/// One field of the state that this Sentinel has of the primary.
async fn field_of(server: &RedisServer, field: &str) -> Result<String, Failure> {
    let fields: Vec<String> = server.ask(&["SENTINEL", "MASTER", MASTER]).await?;
    let (pairs, _) = fields.as_chunks::<2>();
    Ok(pairs.iter().find(|[name, _]| name == field).map(|[_, value]| value.clone()).unwrap_or_default())
}
