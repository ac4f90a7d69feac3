//! What carries messages between instances.

use std::fmt;
use std::time::Duration;

use wire::Name;

use super::key::Key;
use super::raw::RawConfig;

/// Checked `broker` and `[redis]`.
#[derive(Debug, Clone)]
pub enum BrokerConfig {
    /// This process alone: nothing reaches another instance, and history ends with the process.
    Memory,
    /// Redis, shared by all instances.
    Redis(RedisConfig),
}

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user[:password]@]host[:port][/database]`.
    pub url: String,
    /// Every Redis name begins with it, so that several clusters can share one Redis.
    pub prefix: Name,
    /// Most connections for commands; the subscriber has one more of its own.
    pub pool_size: usize,
    /// How long a command may go unanswered before the link counts as broken.
    pub reply_deadline: Duration,
    /// How often the way publish → Redis → subscribe is tried.
    pub probe_interval: Duration,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Key::find("redis.url").expect("the table has it");
        f.debug_struct("RedisConfig")
            .field("url", &key.shown(&self.url.as_str().into()))
            .field("prefix", &self.prefix)
            .field("pool_size", &self.pool_size)
            .field("reply_deadline", &self.reply_deadline)
            .field("probe_interval", &self.probe_interval)
            .finish()
    }
}

impl BrokerConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        if raw.text("broker") == "memory" {
            if raw.optional_text("redis.url").is_some() {
                raw.wrong("broker", "redis, since redis.url is set; or no redis.url");
            }
            return Self::Memory;
        }
        RedisConfig::check(raw).map_or(Self::Memory, Self::Redis)
    }
}

impl RedisConfig {
    pub(super) fn check(raw: &RawConfig) -> Option<Self> {
        let Some(url) = raw.optional_text("redis.url") else {
            raw.wrong("redis.url", "where Redis is, such as redis://127.0.0.1:6379");
            return None;
        };
        Some(Self {
            url: url.to_owned(),
            prefix: Name::parse(raw.text("redis.prefix")).expect("checked by its kind"),
            pool_size: raw.size("redis.pool_size"),
            reply_deadline: raw.ms("redis.reply_deadline_ms"),
            probe_interval: raw.ms("redis.probe_interval_ms"),
        })
    }
}
