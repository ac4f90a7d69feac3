//! The configuration: from flags, environment and a file to values that are known to fit each other.
//!
//! ```text
//!   flags  >  TIDEGATE_… environment  >  TOML file  >  defaults
//!                      │
//!                      ▼
//!   Sources ─▶ RawConfig ─▶ Config       every problem at once, or none
//!                  └─▶ --print-config    secrets redacted
//! ```
//!
//! [`KEYS`] is the table of keys; [`RawConfig`] holds a value and its source for each; [`Config`] is what the
//! gateway runs by: nothing in it is absent that has a default, and the relations between its values hold.
//!
//! Nothing outside this module reads the environment.

mod auth;
mod broker;
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
mod print;
mod problem;
mod raw;
mod rebalance;
mod registry;
mod source;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use connection_registry::{ConnectionLimits, Timings};
use message_router::Policies;
use wire::{Families, InstanceId};

use families::check_families;
use registry::check_timings;
use tls::check_tls;

pub use auth::{AuthConfig, AuthKey, KeyMaterial, Secret};
pub use broker::{BrokerConfig, RedisConfig};
pub use dead_letters::DeadLettersConfig;
pub use drain::DrainConfig;
pub(crate) use drain::{CLOSE_TIMEOUT, ENDING};
pub use http::Origins;
pub use key::{Fallback, KEYS, Key, Secrecy, ValueKind};
pub use limits::LimitsConfig;
pub use log::{LogConfig, LogFormat};
pub use problem::{Problem, Problems, Source};
pub use raw::RawConfig;
pub use rebalance::RebalanceConfig;
pub use source::{FlagSetting, Sources};

pub use crate::transport::tls::Tls;

/// What the gateway runs by.
#[derive(Debug, Clone)]
pub struct Config {
    /// On loopback alone, with a token for whoever asks.
    pub dev: bool,
    /// Whether `/` shows the page that tries things out.
    pub dev_page: bool,
    /// This instance's name among its peers.
    pub instance: InstanceId,
    /// Threads that own sockets.
    pub shards: usize,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where health and metrics are asked for.
    pub admin_listen: SocketAddr,
    /// Where HAProxy's agent check asks.
    pub agent_listen: Option<SocketAddr>,
    /// What the main port speaks TLS by; without it, it speaks plain TCP.
    pub tls: Option<Tls>,
    /// What carries messages between instances.
    pub broker: BrokerConfig,
    /// Whose tokens are good.
    pub auth: AuthConfig,
    /// Which pages may connect.
    pub allowed_origins: Origins,
    /// What each connection may take.
    pub limits: LimitsConfig,
    /// The channel families: their grammar and what holds for each.
    pub policies: Policies,
    /// How instances tell each other that they live.
    pub registry: Timings,
    /// How long a loop may stand still before the instance is frozen.
    pub frozen_after: Duration,
    /// How the instance goes away.
    pub drain: DrainConfig,
    /// When it sends clients to emptier instances.
    pub rebalance: RebalanceConfig,
    /// What is kept of messages that reached nobody.
    pub dead_letters: DeadLettersConfig,
    /// What is written to standard error.
    pub log: LogConfig,
}

impl Config {
    /// Checks everything that serving needs, and completes `raw` for printing.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        let mut auth = AuthConfig::check(raw, policies.families());
        auth.require_key(raw);
        let config = Self {
            dev: raw.flag("dev"),
            dev_page: raw.flag("dev_page"),
            instance: InstanceId::parse(raw.text("instance")).expect("checked by its kind"),
            shards: raw.size("shards"),
            listen: raw.address("listen"),
            admin_listen: raw.address("admin_listen"),
            agent_listen: raw.optional_text("agent_listen").map(|_| raw.address("agent_listen")),
            tls: check_tls(raw),
            broker: BrokerConfig::check(raw),
            auth,
            allowed_origins: Origins::new(raw.texts("http.allowed_origins")),
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

fn check_listeners(raw: &RawConfig) {
    let names = ["listen", "admin_listen", "agent_listen"].into_iter().filter(|name| raw.optional_text(name).is_some());
    let listeners: Vec<_> = names.map(|name| (name, raw.address(name))).collect();
    for (index, (name, address)) in listeners.iter().enumerate() {
        if raw.flag("dev") && !address.ip().is_loopback() {
            raw.wrong(name, "a loopback address: in dev mode everybody who can connect gets a token");
        }
        let same = |(_, other): &&(&str, SocketAddr)| other == address && address.port() != 0;
        if let Some((other, _)) = listeners[..index].iter().find(same) {
            raw.wrong(name, format!("an address of its own; {other} is the same"));
        }
    }
    if raw.flag("dev_page") && !raw.flag("dev") {
        raw.wrong("dev_page", "dev = true with it: the page asks for tokens that only dev mode gives out");
    }
}

/// What the commands need that speak to the fleet's Redis: `tidegate publish`, `who`, `kick`.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// Where to publish.
    pub redis: RedisConfig,
    /// Where messages may go and how long they are kept.
    pub policies: Policies,
    /// Largest message, in bytes.
    pub message_bytes_max: usize,
    /// How many may connect.
    pub connections: ConnectionLimits,
}

impl PublishConfig {
    /// Checks only what publishing needs: a worker's machine has no keys.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        let redis = RedisConfig::check(raw);
        let LimitsConfig { message_bytes_max, fleet: connections, .. } = LimitsConfig::check(raw);
        raw.finish()?;
        let redis = redis.expect("without a URL there was a problem");
        Ok(Self { redis, policies, message_bytes_max, connections })
    }
}

/// What `tidegate dlq` needs.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// Where records are.
    pub redis: RedisConfig,
    /// What channels there are.
    pub policies: Policies,
    /// How many dead letters there may be.
    pub dead_letters: DeadLettersConfig,
}

impl RecordsConfig {
    /// Checks only what reading records needs.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let policies = check_families(raw);
        if raw.optional_text("redis.url").is_none() {
            let expected = "where Redis is, such as redis://127.0.0.1:6379; a gateway without Redis keeps this in its \
                            own memory, out of reach for this command";
            raw.wrong("redis.url", expected);
        }
        let redis = RedisConfig::check(raw);
        let dead_letters = DeadLettersConfig::check(raw);
        raw.finish()?;
        Ok(Self { redis: redis.expect("without a URL there was a problem"), policies, dead_letters })
    }
}

/// What `tidegate token` needs.
#[derive(Debug, Clone)]
pub struct SignConfig {
    /// The keys, which may be none.
    pub auth: AuthConfig,
    /// What grants may name.
    pub families: Families,
}

impl SignConfig {
    /// Checks only what signing needs.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn check(raw: &mut RawConfig) -> Result<Self, Problems> {
        let families = check_families(raw).families().clone();
        let auth = AuthConfig::check(raw, &families);
        raw.finish()?;
        Ok(Self { auth, families })
    }
}

/// What `tidegate health` needs.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// Where to ask.
    pub admin_listen: SocketAddr,
}

impl HealthConfig {
    /// Checks that the sources can be read.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn check(raw: &RawConfig) -> Result<Self, Problems> {
        raw.finish()?;
        Ok(Self { admin_listen: raw.address("admin_listen") })
    }
}
