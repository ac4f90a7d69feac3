//! The broker that carries messages between instances: `broker` and `[redis]`.

use std::path::Path;
use std::time::Duration;

use redis_topology::{BadRedisTls, BadRedisUrl, Target, TlsFiles};
use wire::Name;

use super::raw::RawConfig;
use super::text_file::read_text;

const REDIS_URL_EXPECTED: &str = "the URL of Redis, such as redis://127.0.0.1:6379";

const CA: &str = "redis.ca_file";
const CERTIFICATE: &str = "redis.cert_file";
const KEY: &str = "redis.key_file";

/// The checked values of `broker` and `[redis]`.
#[derive(Debug, Clone)]
pub enum BrokerConfig {
    /// Messages stay in this process: no other instance receives them, and the history is lost when the process ends.
    Memory,
    /// Messages go through Redis, which all instances share.
    Redis(Box<RedisConfig>),
}

/// The checked values of `[redis]`.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The address of Redis: one server, Sentinels, or a cluster.
    pub target: Target,
    /// Prefix of every Redis name, so that several clusters can share one Redis.
    pub prefix: Name,
    /// Largest number of connections for commands. The subscriber uses one further connection.
    pub pool_size: usize,
    /// Longest time that a command may wait for its reply. After that the connection counts as broken.
    pub reply_deadline: Duration,
    /// Interval between probes of the path publish → Redis → subscribe.
    pub probe_interval: Duration,
    /// Interval at which the newest position of each scope is compared with Redis.
    pub check_interval: Duration,
    /// Revision of the families. If instances have different families, those of the highest revision are in force.
    pub families_revision: u32,
}

impl BrokerConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        if raw.text("broker") == "memory" {
            if raw.optional_text("redis.url").is_some() {
                raw.wrong("broker", "redis, because redis.url is set; or unset redis.url");
            }
            return Self::Memory;
        }
        RedisConfig::check(raw).map_or(Self::Memory, |redis| Self::Redis(Box::new(redis)))
    }
}

impl RedisConfig {
    pub(super) fn check(raw: &RawConfig) -> Option<Self> {
        let Some(url) = raw.optional_text("redis.url") else {
            raw.wrong("redis.url", REDIS_URL_EXPECTED);
            return None;
        };
        let files = read_tls_files(raw, Target::asks_for_tls(url))?;
        let target = Target::parse_with(url, &files).map_err(|error| match &error {
            BadRedisUrl::Tls(BadRedisTls::Ca(_)) if files.ca.is_some() => {
                raw.wrong(CA, format!("a PEM file with certificates; {error}"));
            }
            BadRedisUrl::Tls(BadRedisTls::Certificate(_)) => {
                raw.wrong(CERTIFICATE, format!("a PEM file with the certificate and the chain behind it; {error}"));
            }
            BadRedisUrl::Tls(BadRedisTls::Key(_)) => {
                raw.wrong(KEY, format!("a PEM file with the private key of the certificate, not encrypted; {error}"));
            }
            _ => raw.wrong("redis.url", format!("{REDIS_URL_EXPECTED}; {error}")),
        });
        Some(Self {
            target: target.ok()?,
            prefix: Name::parse(raw.text("redis.prefix")).expect("checked by its kind"),
            pool_size: raw.size("redis.pool_size"),
            reply_deadline: raw.ms("redis.reply_deadline_ms"),
            probe_interval: raw.ms("redis.probe_interval_ms"),
            check_interval: raw.ms("redis.check_interval_ms"),
            families_revision: raw.count("redis.families_revision"),
        })
    }
}

/// Reads the files for TLS to Redis. Returns `None` if one of them cannot be read, or has no effect.
fn read_tls_files(raw: &RawConfig, is_tls: bool) -> Option<TlsFiles> {
    let mut is_good = true;
    let mut read = |name: &'static str| {
        let path = raw.optional_text(name)?;
        if !is_tls {
            raw.wrong(name, "no file, because redis.url does not ask for TLS: write rediss:// there");
            is_good = false;
            return None;
        }
        let read = read_text(Path::new(path));
        is_good &= read.is_ok();
        read.map_err(|error| raw.wrong(name, format!("a file that can be read: {error}"))).ok()
    };
    let (ca, certificate, key) = (read(CA), read(CERTIFICATE), read(KEY));
    let is_set = |name| raw.optional_text(name).is_some();
    for (name, other) in [(CERTIFICATE, KEY), (KEY, CERTIFICATE)] {
        if is_tls && is_set(other) && !is_set(name) {
            raw.wrong(name, format!("a file, because {other} is set; a client certificate needs both"));
            is_good = false;
        }
    }
    is_good.then(|| TlsFiles { ca, client: certificate.zip(key) })
}
