//! The configuration: reads flags, environment and a file, and checks that the values are consistent.
//!
//! ```text
//!   flags  >  TIDEGATE_… environment  >  TOML file  >  defaults
//!                      │
//!                      ▼
//!   Sources ─▶ RawConfig ─▶ Config       all problems together, or none
//!                  └─▶ --print-config    secrets redacted
//! ```
//!
//! [`KEYS`] is the table of keys. [`RawConfig`] holds the value and the source of each key. [`Config`] holds the
//! checked values: every key with a default has a value, and the relations between values hold.
//!
//! No other module reads the environment.

mod admin_hosts;
mod auth;
mod broker;
mod choices;
mod dead_letters;
mod defaults;
mod drain;
mod families;
mod gather;
mod http;
mod instance;
mod key;
mod limits;
mod log;
mod nearest;
pub(crate) mod origins;
pub(crate) mod paths;
mod print;
mod problem;
mod proxies;
mod raw;
mod rebalance;
mod registry;
mod session_cookie;
mod source;
mod text_file;
mod tls;
mod variable;

use std::net::SocketAddr;
use std::time::Duration;

use connection_registry::{ConnectionLimits, Timings};
use message_router::Policies;
use wire::{Families, InstanceId};

use families::check_families;
use registry::check_timings;
use tls::check_tls;

pub use crate::auth::key_set::{KeySetConfig, KeySetTimes};
pub use admin_hosts::AdminHosts;
pub use auth::{AuthConfig, AuthKey, KeyMaterial, Secret};
pub use broker::{BrokerConfig, RedisConfig};
pub use dead_letters::DeadLettersConfig;
pub use drain::DrainConfig;
pub(crate) use drain::{CLOSE_TIMEOUT, ENDING};
pub use http::HttpConfig;
pub use key::{Fallback, KEYS, Key, Secrecy, ValueKind};
pub use limits::LimitsConfig;
pub use log::{LogConfig, LogFormat};
pub(crate) use origins::Pages;
pub use origins::{Origins, Subdomains};
pub use paths::Paths;
pub use problem::{Problem, Problems, Source};
pub use proxies::{ForwardedHeader, TrustedProxies};
pub use raw::RawConfig;
pub use rebalance::RebalanceConfig;
pub use session_cookie::{Secure, SessionCookie};
pub use source::{FlagSetting, Sources};

pub use crate::transport::tls::Tls;

/// The checked configuration of a gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Dev mode: the gateway listens on loopback only, and issues a token to every client that asks for one.
    pub dev: bool,
    /// Whether the gateway serves the dev page at `/`.
    pub dev_page: bool,
    /// The name of this instance, unique in its fleet.
    pub instance: InstanceId,
    /// Number of threads that own sockets.
    pub shards: usize,
    /// Address of the main port, to which clients connect.
    pub listen: SocketAddr,
    /// Address of the admin port, for health checks and metrics.
    pub admin_listen: SocketAddr,
    /// The names by which the admin port may be addressed.
    pub admin_hosts: AdminHosts,
    /// Whether requests to the admin port need a service token.
    pub admin_requires_token: bool,
    /// Address for the agent check of HAProxy.
    pub agent_listen: Option<SocketAddr>,
    /// Certificate and key of the main port. `None` means plain TCP.
    pub tls: Option<Tls>,
    /// The broker that carries messages between instances.
    pub broker: BrokerConfig,
    /// The keys that verify tokens.
    pub auth: AuthConfig,
    /// How clients reach the main port.
    pub http: HttpConfig,
    /// The proxies that may say for whom they connect.
    pub trusted_proxies: TrustedProxies,
    /// Limits of each connection and of the instance.
    pub limits: LimitsConfig,
    /// The channel families: the channel grammar and the policy of each family.
    pub policies: Policies,
    /// Intervals and timeouts of the lease and the directory.
    pub registry: Timings,
    /// Longest time without progress of a thread. After that the instance counts as frozen.
    pub frozen_after: Duration,
    /// How the instance stops.
    pub drain: DrainConfig,
    /// When the instance moves clients to emptier instances.
    pub rebalance: RebalanceConfig,
    /// Limits on stored dead letters.
    pub dead_letters: DeadLettersConfig,
    /// The log on standard error.
    pub log: LogConfig,
}

impl Config {
    /// Checks every value that serving needs, and completes `raw` for printing.
    ///
    /// # Errors
    /// If a value is wrong; the error lists every problem.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        let mut auth = AuthConfig::check(raw, policies.families());
        auth.require_key(raw);
        let tls = check_tls(raw);
        let config = Self {
            dev: raw.flag("dev"),
            dev_page: raw.flag("dev_page"),
            instance: InstanceId::parse(raw.text("instance")).expect("checked by its kind"),
            shards: raw.size("shards"),
            listen: raw.address("listen"),
            admin_listen: raw.address("admin_listen"),
            admin_hosts: check_admin_hosts(raw),
            admin_requires_token: raw.flag("admin.require_token"),
            agent_listen: raw.optional_text("agent_listen").map(|_| raw.address("agent_listen")),
            http: HttpConfig::check(raw, tls.is_some()),
            tls,
            broker: BrokerConfig::check(raw),
            auth,
            trusted_proxies: check_proxies(raw),
            limits: LimitsConfig::check(raw),
            policies,
            registry: check_timings(raw),
            frozen_after: raw.ms("watchdog.frozen_after_ms"),
            drain: DrainConfig::check(raw),
            rebalance: RebalanceConfig::check(raw),
            dead_letters: DeadLettersConfig::check(raw),
            log: LogConfig::check(raw),
        };
        check_listeners(raw);
        raw.finish()?;
        Ok(config)
    }
}

fn check_proxies(raw: &RawConfig) -> TrustedProxies {
    let header = match raw.text("http.forwarded_header") {
        "forwarded" => ForwardedHeader::Forwarded,
        _ => ForwardedHeader::XForwardedFor,
    };
    let mut proxies = TrustedProxies::parse(&raw.texts("http.trusted_proxies"), header);
    proxies.speak_proxy_protocol = raw.flag("http.proxy_protocol");
    if proxies.speak_proxy_protocol && raw.texts("http.trusted_proxies").is_empty() {
        let expected = "http.trusted_proxies with it: only the proxies listed there may say who connects";
        raw.wrong("http.proxy_protocol", expected);
    }
    proxies
}

fn check_listeners(raw: &RawConfig) {
    let names = ["listen", "admin_listen", "agent_listen"].into_iter().filter(|name| raw.optional_text(name).is_some());
    let listeners: Vec<_> = names.map(|name| (name, raw.address(name))).collect();
    for (index, (name, address)) in listeners.iter().enumerate() {
        if raw.flag("dev") && !address.ip().is_loopback() {
            raw.wrong(name, "a loopback address: in dev mode every client that can connect gets a token");
        }
        let same = |(_, other): &&(&str, SocketAddr)| other == address && address.port() != 0;
        if let Some((other, _)) = listeners[..index].iter().find(same) {
            raw.wrong(name, format!("an address that differs from {other}"));
        }
    }
    if raw.flag("dev_page") && !raw.flag("dev") {
        raw.wrong("dev_page", "dev = true with it: the page requests tokens, which only dev mode issues");
    }
}

fn check_admin_hosts(raw: &RawConfig) -> AdminHosts {
    let hosts = AdminHosts::parse(&raw.texts("admin.allowed_hosts"));
    hosts.unwrap_or_else(|expected| {
        raw.wrong("admin.allowed_hosts", expected);
        AdminHosts::default()
    })
}

/// The configuration of the commands that use the fleet's Redis: `tidegate publish`, `who`, `kick`, `send` and
/// `presence`.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The Redis to publish to.
    pub redis: RedisConfig,
    /// The channel families and how long their messages are kept.
    pub policies: Policies,
    /// Largest message, in bytes.
    pub message_bytes_max: usize,
    /// Largest number of connections per user and per tenant.
    pub connections: ConnectionLimits,
}

impl PublishConfig {
    /// Checks only the values that these commands need: the machine of a worker has no keys.
    ///
    /// # Errors
    /// If a value is wrong; the error lists every problem.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        let redis = RedisConfig::check(raw);
        let LimitsConfig { message_bytes_max, fleet: connections, .. } = LimitsConfig::check(raw);
        raw.finish()?;
        let redis = redis.expect("without a URL there was a problem");
        Ok(Self { redis, policies, message_bytes_max, connections })
    }
}

/// The configuration of `tidegate revoke`.
#[derive(Debug, Clone)]
pub struct RevokeConfig {
    /// The Redis, and how to use it.
    pub registry: PublishConfig,
    /// How long a revocation has to be kept: as long as a token can be valid that was issued before it.
    pub keep: Duration,
}

impl RevokeConfig {
    /// Checks only the values that the command needs.
    ///
    /// # Errors
    /// If a value is wrong; the error lists every problem.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let registry = PublishConfig::check(raw)?;
        let keep_s = raw.number("auth.lifetime_s_max") + raw.number("auth.leeway_s");
        Ok(Self { registry, keep: Duration::from_secs(keep_s) })
    }
}

/// The configuration of `tidegate dlq` and `tidegate receipts`.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// The Redis that stores the records.
    pub redis: RedisConfig,
    /// The channel families and their policies.
    pub policies: Policies,
    /// Limits on stored dead letters.
    pub dead_letters: DeadLettersConfig,
}

impl RecordsConfig {
    /// Checks only the values that these commands need.
    ///
    /// # Errors
    /// If a value is wrong; the error lists every problem.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        if raw.optional_text("redis.url").is_none() {
            let expected = "the URL of Redis, such as redis://127.0.0.1:6379; without Redis a gateway keeps records in \
                            its own memory, which this command cannot read";
            raw.wrong("redis.url", expected);
        }
        let redis = RedisConfig::check(raw);
        let dead_letters = DeadLettersConfig::check(raw);
        raw.finish()?;
        Ok(Self { redis: redis.expect("without a URL there was a problem"), policies, dead_letters })
    }
}

/// The configuration of `tidegate token`.
#[derive(Debug, Clone)]
pub struct SignConfig {
    /// The keys. There may be none.
    pub auth: AuthConfig,
    /// The channel families that grants may name.
    pub families: Families,
}

impl SignConfig {
    /// Checks only the values that signing needs.
    ///
    /// # Errors
    /// If a value is wrong; the error lists every problem.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let families = check_families(raw).families().clone();
        let auth = AuthConfig::check(raw, &families);
        raw.finish()?;
        Ok(Self { auth, families })
    }
}

/// The configuration of `tidegate health` and `tidegate drain`.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// Address of the gateway's admin port.
    pub admin_listen: SocketAddr,
    /// No source sets the address.
    pub is_default: bool,
}

impl HealthConfig {
    /// Checks that the sources were read without a problem.
    ///
    /// # Errors
    /// If a source cannot be read or sets a wrong value; the error lists every problem.
    pub fn check(raw: &RawConfig) -> Result<Self, Problems> {
        raw.finish()?;
        Ok(Self { admin_listen: raw.address("admin_listen"), is_default: raw.is_default("admin_listen") })
    }
}
