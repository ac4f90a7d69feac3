//! What carries messages between instances.

use std::time::Duration;

use redis_topology::Target;
use wire::Name;

use super::raw::RawConfig;

const REDIS_URL_EXPECTED: &str = "where Redis is, such as redis://127.0.0.1:6379";

/// Checked `broker` and `[redis]`.
#[derive(Debug, Clone)]
pub enum BrokerConfig {
    /// This process alone: nothing reaches another instance, and history ends with the process.
    Memory,
    /// Redis, shared by all instances.
    Redis(Box<RedisConfig>),
}

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Where it is.
    pub target: Target,
    /// Every Redis name begins with it, so that several clusters can share one Redis.
    pub prefix: Name,
    /// Most connections for commands; the subscriber has one more of its own.
    pub pool_size: usize,
    /// How long a command may go unanswered before the link counts as broken.
    pub reply_deadline: Duration,
    /// How often the way publish → Redis → subscribe is tried.
    pub probe_interval: Duration,
    /// How often each scope is compared with Redis' newest position.
    pub check_interval: Duration,
}

impl BrokerConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        if raw.text("broker") == "memory" {
            if raw.optional_text("redis.url").is_some() {
                raw.wrong("broker", "redis, since redis.url is set; or no redis.url");
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
        let target = Target::parse(url).map_err(|error| {
            raw.wrong("redis.url", format!("{REDIS_URL_EXPECTED}; {error}"));
        });
        Some(Self {
            target: target.ok()?,
            prefix: Name::parse(raw.text("redis.prefix")).expect("checked by its kind"),
            pool_size: raw.size("redis.pool_size"),
            reply_deadline: raw.ms("redis.reply_deadline_ms"),
            probe_interval: raw.ms("redis.probe_interval_ms"),
            check_interval: raw.ms("redis.check_interval_ms"),
        })
    }
}
