//! What the Redis broker must be told.

use keyspace::{Keyspace, Library};
use redis::IntoConnectionInfo as _;
use wire::InstanceId;

/// Where Redis is and how to treat it. Made by [`Self::new`] with the defaults given at each field.
#[derive(Debug, Clone)]
pub struct RedisBrokerConfig {
    pub(super) target: Target,
    /// Names of keys and channels.
    pub keyspace: Keyspace,
    /// The functions, with the families' retention compiled in.
    pub library: Library,
    /// Who we are: names the probe channel and our connections in `CLIENT LIST`.
    pub instance: InstanceId,
    /// 1,000. How often the way there and back is tried; a dead one is noticed within three times this.
    pub probe_interval_ms: u64,
    /// 2,000. After this long a call is given up, and its outcome unknown.
    pub reply_deadline_ms: u64,
    /// 100. The first wait before connecting again.
    pub backoff_min_ms: u64,
    /// 5,000. The longest wait before connecting again.
    pub backoff_max_ms: u64,
    /// 16 MiB. Calls waiting for Redis may hold this much; above, they are refused at once.
    pub in_flight_bytes_max: usize,
}

/// A Redis URL taken apart.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) settings: redis::RedisConnectionInfo,
}

/// Why a text is not the URL of a Redis we can talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisUrl {
    /// `rediss:` or `valkeys:`.
    #[error("TLS to Redis is not built in: write redis:// and put Redis on a private network or behind a TLS tunnel")]
    Tls,
    /// `unix:` and its like.
    #[error("a Redis socket in the file system is not supported: write redis://HOST:PORT")]
    Unix,
    /// Anything else.
    #[error("a Redis URL is redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]: {0}")]
    Shape(String),
}

// === impl RedisBrokerConfig ===

impl RedisBrokerConfig {
    /// The defaults, for the Redis at `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`.
    ///
    /// # Errors
    /// When the URL is of another form, or names something that is not supported.
    pub fn new(url: &str, keyspace: Keyspace, instance: InstanceId, library: Library) -> Result<Self, BadRedisUrl> {
        Ok(Self {
            target: Target::parse(url)?,
            keyspace,
            library,
            instance,
            probe_interval_ms: 1_000,
            reply_deadline_ms: 2_000,
            backoff_min_ms: 100,
            backoff_max_ms: 5_000,
            in_flight_bytes_max: 16 * 1024 * 1024,
        })
    }
}

// === impl Target ===

impl Target {
    fn parse(url: &str) -> Result<Self, BadRedisUrl> {
        let shape = |reason: &str| BadRedisUrl::Shape(reason.to_owned());
        let (scheme, _) = url.split_once(':').ok_or_else(|| shape("there is no scheme"))?;
        match scheme {
            "redis" | "valkey" => {}
            "rediss" | "valkeys" => return Err(BadRedisUrl::Tls),
            "unix" | "redis+unix" | "valkey+unix" => return Err(BadRedisUrl::Unix),
            other => return Err(shape(&format!("the scheme is {other:?}"))),
        }
        // The reason of a failed parse must not repeat the URL: there may be a password in it.
        let info = url.into_connection_info().map_err(|error| shape(error.category()))?;
        let redis::ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(shape("it names no host")) };
        // Our connections are named by role and instance; the library's own name would need one more permission.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self { host: host.clone(), port: *port, settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("redis://alice:p%40ss@example.com:7000/3").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("example.com", 7000));
        assert_eq!(target.settings.username(), Some("alice"));
        assert_eq!(target.settings.password(), Some("p@ss"));
        assert_eq!(target.settings.db(), 3);
        assert_eq!(Target::parse("redis://localhost").unwrap().port, 6379);
    }

    #[test]
    fn what_is_not_supported_says_so() {
        assert_eq!(Target::parse("rediss://localhost").unwrap_err(), BadRedisUrl::Tls);
        assert_eq!(Target::parse("unix:///run/redis.sock").unwrap_err(), BadRedisUrl::Unix);
        for url in ["localhost:6379", "localhost", "http://localhost", "redis://", "redis://host:port", "redis://h/db"]
        {
            assert!(matches!(Target::parse(url), Err(BadRedisUrl::Shape(_))), "{url}");
        }
        let error = Target::parse("redis://alice:secret@[broken/3").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let target = Target::parse("redis://alice:secret@localhost").unwrap();
        assert!(!format!("{target:?}").contains("secret"));
    }
}
