//! Every configuration key: its name, the values it accepts, and its default.
//!
//! This table is the only list of keys. The file, the environment, `--set` and `--print-config` all use it. Tests
//! compare it with `deploy/gateway.example.toml` and `docs/configuration.md`.

use std::net::SocketAddr;
use std::path::Path;

use toml::Value;

use super::choices::{
    ACKNOWLEDGE, ALGORITHMS, FORWARDED_HEADER, ON_EXCESS, ON_ISOLATION, ON_SLOW, SECURE, SHARDS_MAX, is_path,
};

/// One configuration key: a row of [`KEYS`].
#[derive(Debug)]
pub struct Key {
    /// `section.key`, or the bare key before the first section. In a row of a list, the bare key.
    pub name: &'static str,
    /// The values that the key accepts.
    pub kind: ValueKind,
    /// The value that the key has when no source sets it.
    pub default: Fallback,
    /// The part of the value that must not be shown.
    pub secret: Secrecy,
}

/// The value that a key has when no source sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This value, written as in the file.
    Toml(&'static str),
    /// A value derived from other keys or from the machine; see `RawConfig::resolve`.
    Derived,
    /// No value: the feature is off, or the row requires the key.
    Absent,
}

/// The part of a value that must not be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    Open,
    /// The whole value must not be shown.
    Secret,
    /// The part before the `@` of a URL, and its query.
    UrlUser,
}

/// The values that a key accepts.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// A boolean: `true` or `false`.
    Flag,
    /// An integer of `unit` from `min` to `max`.
    Number { unit: &'static str, min: i64, max: i64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text for which `accepts` returns true.
    Text { expected: &'static str, accepts: fn(&str) -> bool },
    /// The name of a file. In a file, a relative name begins at the folder of that file.
    File,
    /// A list of texts for which `accepts` returns true. A single text may be written without brackets.
    Texts { expected: &'static str, accepts: fn(&str) -> bool },
    /// A list of tables with these keys.
    Rows(&'static [Key]),
}

/// The replacement of a value that must not be shown.
pub(crate) const REDACTED: &str = "[redacted]";

const ADDRESS: ValueKind = ValueKind::Text {
    expected: "an address and a port, such as 127.0.0.1:8080 or [::1]:8080",
    accepts: |text| text.parse::<SocketAddr>().is_ok(),
};
const NAME: ValueKind = ValueKind::Text {
    expected: "a name: 1 to 128 letters, digits and _ . @ | = + ~ -",
    accepts: |text| wire::Name::parse(text).is_ok(),
};
// White space at the ends comes with a line end or a quotation mark too many, and no token would ever match.
const WORDS: ValueKind = ValueKind::Text {
    expected: "a text that is not empty, without white space at its ends and without control characters",
    accepts: |text| !text.is_empty() && text.trim() == text && !text.contains(is_invisible),
};
const FILE: ValueKind = ValueKind::File;
const COOKIE: ValueKind = ValueKind::Text {
    expected: "a cookie's name: letters, digits and _ . -",
    accepts: |text| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    },
};
const REDIS_URL: ValueKind = ValueKind::Text {
    expected: "a URL such as redis://127.0.0.1:6379",
    // `RedisConfig::check` reports what is wrong with a URL.
    accepts: |_| true,
};
const LOG_FILTER: ValueKind = ValueKind::Text {
    expected: "a log filter, such as info or info,tidegate_gateway=debug",
    accepts: |text| tracing_subscriber::EnvFilter::builder().parse(text).is_ok(),
};
const ORIGINS: ValueKind = ValueKind::Texts {
    expected: "a list of origins such as \"https://app.example.com\", or \"loopback\", or \"*\"",
    // `Origins::parse` says what is wrong with an origin.
    accepts: |_| true,
};
const PATHS: ValueKind = ValueKind::Texts {
    expected: "a list of paths such as \"/ws\", of letters, digits and - . _ ~ /",
    accepts: is_path,
};
const HOSTS: ValueKind = ValueKind::Texts {
    expected: "a list of host names such as \"gateway.example.com\" or \"*.example.com\"",
    // `AdminHosts::parse` says what is wrong with a name.
    accepts: |_| true,
};
const NETWORKS: ValueKind = ValueKind::Texts {
    expected: "a list of addresses and networks such as \"10.0.0.7\" or \"fd00::/8\"",
    accepts: super::proxies::is_network,
};
const PATTERNS: ValueKind = ValueKind::Texts {
    expected: "a list of patterns such as \"system:*\" or \"collection:42:ops\"",
    accepts: |text| !text.is_empty(),
};

/// Characters that nobody sees: control characters, byte order marks.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{FEFF}' | '\u{200B}')
}

const SCOPES: ValueKind = ValueKind::Texts {
    expected: "a list of scopes: admin:read, admin:drain",
    accepts: |text| crate::auth::permission::Permission::parse(text).is_some(),
};

const fn ms(min: i64, max: i64) -> ValueKind {
    ValueKind::Number { unit: "milliseconds", min, max }
}

const fn key(name: &'static str, kind: ValueKind, default: &'static str) -> Key {
    Key { name, kind, default: Fallback::Toml(default), secret: Secrecy::Open }
}

const fn derived(name: &'static str, kind: ValueKind) -> Key {
    Key { name, kind, default: Fallback::Derived, secret: Secrecy::Open }
}

const fn optional(name: &'static str, kind: ValueKind) -> Key {
    Key { name, kind, default: Fallback::Absent, secret: Secrecy::Open }
}

const MIB: i64 = 1024 * 1024;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// All keys, in the order of the example file.
pub const KEYS: &[Key] = &[
    derived("dev", ValueKind::Flag),
    derived("dev_page", ValueKind::Flag),
    derived("instance", NAME),
    key("shards", ValueKind::Number { unit: "threads", min: 0, max: SHARDS_MAX }, "0"),
    key("listen", ADDRESS, "\"127.0.0.1:8080\""),
    key("admin_listen", ADDRESS, "\"127.0.0.1:9090\""),
    optional("agent_listen", ADDRESS),
    derived("broker", ValueKind::Choice(&["memory", "redis"])),
    key("admin.require_token", ValueKind::Flag, "false"),
    key("admin.allowed_hosts", HOSTS, "[]"),
    optional("tls.cert_file", FILE),
    optional("tls.key_file", FILE),
    Key { name: "redis.url", kind: REDIS_URL, default: Fallback::Absent, secret: Secrecy::UrlUser },
    optional("redis.ca_file", FILE),
    optional("redis.cert_file", FILE),
    optional("redis.key_file", FILE),
    key("redis.prefix", NAME, "\"tidegate\""),
    key("redis.pool_size", ValueKind::Number { unit: "connections", min: 1, max: 10_000 }, "100"),
    key("redis.reply_deadline_ms", ms(10, 60_000), "2000"),
    key("redis.probe_interval_ms", ms(100, 60_000), "1000"),
    key("redis.check_interval_ms", ms(1_000, 1_800_000), "30000"),
    key("redis.families_revision", ValueKind::Number { unit: "revision", min: 0, max: 1_000 }, "0"),
    derived("auth.keys", ValueKind::Rows(AUTH_KEY_ROW)),
    optional("auth.issuer", WORDS),
    optional("auth.audience", WORDS),
    optional("auth.token_type", WORDS),
    key(
        "auth.lifetime_s_max",
        ValueKind::Number { unit: "seconds", min: 1, max: 10 * 365 * DAY_MS / 1_000 },
        "2592000",
    ),
    key("auth.user_claim", WORDS, "\"sub\""),
    key("auth.escape_users", ValueKind::Flag, "false"),
    key("auth.leeway_s", ValueKind::Number { unit: "seconds", min: 0, max: 300 }, "10"),
    key("auth.expiry_grace_ms", ms(0, 3_600_000), "10000"),
    key("auth.jwks_refresh_s", ValueKind::Number { unit: "seconds", min: 10, max: 86_400 }, "300"),
    key("auth.jwks_stale_s_max", ValueKind::Number { unit: "seconds", min: 60, max: 30 * 86_400 }, "86400"),
    key("auth.default_subscribe", PATTERNS, "[\"system:*\"]"),
    key("auth.default_publish", PATTERNS, "[]"),
    key("auth.cookie", COOKIE, "\"tidegate_token\""),
    derived("http.allowed_origins", ORIGINS),
    key("http.websocket_paths", PATHS, "[\"/ws\"]"),
    key("http.event_stream_paths", PATHS, "[\"/sse\"]"),
    key("http.session_cookie", COOKIE, "\"tidegate_session\""),
    key("http.session_cookie_secure", ValueKind::Choice(SECURE), "\"auto\""),
    key("http.trusted_proxies", NETWORKS, "[]"),
    key("http.forwarded_header", ValueKind::Choice(FORWARDED_HEADER), "\"x-forwarded-for\""),
    key("http.proxy_protocol", ValueKind::Flag, "false"),
    key("limits.message_bytes_max", ValueKind::Number { unit: "bytes", min: 1024, max: 64 * MIB }, "1048576"),
    key("limits.hello_bytes_max", ValueKind::Number { unit: "bytes", min: 1024, max: 64 * MIB }, "16384"),
    key("limits.message_timeout_ms", ms(100, 3_600_000), "30000"),
    key(
        "limits.inbound_bytes_max",
        ValueKind::Number { unit: "bytes", min: 65_536, max: 1024 * 1024 * MIB },
        "67108864",
    ),
    key("limits.messages_per_second", ValueKind::Number { unit: "messages", min: 1, max: 1_000_000 }, "100"),
    key("limits.messages_burst", ValueKind::Number { unit: "messages", min: 1, max: 1_000_000 }, "200"),
    key(
        "limits.backlog_bytes_max",
        ValueKind::Number { unit: "bytes", min: 4096, max: 1024 * 1024 * MIB },
        "268435456",
    ),
    key("limits.write_timeout_ms", ms(100, 3_600_000), "30000"),
    key("limits.ping_interval_ms", ms(100, 3_600_000), "30000"),
    key("limits.pong_timeout_ms", ms(50, 3_600_000), "10000"),
    key("limits.hello_timeout_ms", ms(50, 3_600_000), "10000"),
    key("limits.handshake_timeout_ms", ms(50, 3_600_000), "10000"),
    key("limits.outbox_bytes_max", ValueKind::Number { unit: "bytes", min: 4096, max: 1024 * MIB }, "4194304"),
    key("limits.connections_max", ValueKind::Number { unit: "connections", min: 0, max: 10_000_000 }, "0"),
    key("limits.unauthenticated_max", ValueKind::Number { unit: "connections", min: 0, max: 10_000_000 }, "0"),
    key("limits.connects_per_second", ValueKind::Number { unit: "connections", min: 0, max: 1_000_000 }, "3000"),
    key("limits.connections_per_address", ValueKind::Number { unit: "connections", min: 0, max: 10_000_000 }, "0"),
    key(
        "limits.connects_per_second_per_address",
        ValueKind::Number { unit: "connections", min: 0, max: 1_000_000 },
        "0",
    ),
    key("limits.connections_per_user", ValueKind::Number { unit: "connections", min: 0, max: 1_000_000 }, "10"),
    key("limits.connections_per_tenant", ValueKind::Number { unit: "connections", min: 0, max: 10_000_000 }, "0"),
    key("limits.on_excess", ValueKind::Choice(ON_EXCESS), "\"reject\""),
    key("drain.delay_ms", ms(0, 3_600_000), "0"),
    key("drain.window_ms", ms(0, 3_600_000), "10000"),
    key("drain.grace_ms", ms(5_000, 3_600_000), "20000"),
    optional("drain.kill_after_ms", ms(1_000, 86_400_000)),
    key("rebalance.tolerance_percent", ValueKind::Number { unit: "percent", min: 5, max: 1_000 }, "20"),
    key("rebalance.surplus_min", ValueKind::Number { unit: "connections", min: 1, max: 10_000_000 }, "50"),
    key("rebalance.per_second", ValueKind::Number { unit: "connections", min: 0, max: 100_000 }, "100"),
    key("rebalance.spare_ms", ms(1_000, 3_600_000), "60000"),
    key("watchdog.frozen_after_ms", ms(1_000, 3_600_000), "5000"),
    key("registry.heartbeat_interval_ms", ms(50, 60_000), "2000"),
    key("registry.lease_ms", ms(100, 600_000), "6000"),
    key("registry.reap_ms", ms(100, 600_000), "8000"),
    key("registry.record_ms", ms(1_000, 3_600_000), "120000"),
    key("presence.grace_ms", ms(0, 60_000), "5000"),
    key("dead_letters.entries_max", ValueKind::Number { unit: "dead letters", min: 1, max: 1_000_000 }, "1000"),
    key("dead_letters.message_bytes_max", ValueKind::Number { unit: "bytes", min: 0, max: 64 * MIB }, "65536"),
    key("dead_letters.ttl_ms", ms(1_000, 365 * DAY_MS), "604800000"),
    key("log.filter", LOG_FILTER, "\"info\""),
    key("log.format", ValueKind::Choice(&["text", "json"]), "\"text\""),
    derived("families", ValueKind::Rows(FAMILY_ROW)),
];

/// The keys of a row of `auth.keys`.
const AUTH_KEY_ROW: &[Key] = &[
    optional("kid", WORDS),
    optional("algorithm", ValueKind::Choice(ALGORITHMS)),
    Key { name: "secret", kind: WORDS, default: Fallback::Absent, secret: Secrecy::Secret },
    optional("secret_file", FILE),
    optional("public_key_file", FILE),
    optional("jwks_url", WORDS),
    optional("issuer", WORDS),
    optional("audience", WORDS),
    optional("ca_file", FILE),
    optional("scopes", SCOPES),
];

/// The keys of a row of `families`. `families.rs` has their defaults.
const FAMILY_ROW: &[Key] = &[
    optional("name", NAME),
    optional("keyed", ValueKind::Flag),
    optional("ttl_ms", ms(1_000, 365 * DAY_MS)),
    optional("history_entries_max", ValueKind::Number { unit: "messages", min: 0, max: 1_000_000 }),
    optional("lane", ValueKind::Number { unit: "lane", min: 1, max: 3 }),
    optional("binary", ValueKind::Flag),
    optional("on_isolation", ValueKind::Choice(ON_ISOLATION)),
    optional("on_slow", ValueKind::Choice(ON_SLOW)),
    optional("acknowledge", ValueKind::Choice(ACKNOWLEDGE)),
    optional("redact_dead_letters", ValueKind::Flag),
    optional("receipts", ValueKind::Flag),
    optional("presence", ValueKind::Flag),
];

impl Key {
    /// Returns the key called `name`.
    pub(crate) fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The environment variable that sets the key: dots become underscores.
    ///
    /// ```
    /// use tidegate_gateway::config::KEYS;
    /// let key = KEYS.iter().find(|key| key.name == "redis.url").unwrap();
    /// assert_eq!(key.variable(), "TIDEGATE_REDIS_URL");
    /// ```
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TIDEGATE_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// Returns the value in its canonical form, or a text that says what is expected.
    pub(crate) fn accept(&self, value: Value) -> Result<Value, String> {
        if self.secret != Secrecy::Open && value.as_str().is_some_and(|text| text.contains(REDACTED)) {
            return Err("the secret itself; this is what --print-config writes in its place".into());
        }
        self.kind.accept(value).ok_or_else(|| self.kind.expected())
    }

    /// Returns the value as it may be shown, without secrets.
    pub(crate) fn shown(&self, value: &Value) -> Value {
        match (self.secret, &self.kind, value) {
            (Secrecy::Secret, ..) => Value::from(REDACTED),
            (Secrecy::UrlUser, _, Value::String(url)) => Value::from(redact_url_user(url)),
            (_, ValueKind::Rows(keys), Value::Array(rows)) => {
                Value::Array(rows.iter().map(|row| shown_row(keys, row)).collect())
            }
            // The value is not a list of rows, so a secret in it could not be recognised.
            (_, ValueKind::Rows(_), _) => Value::from(REDACTED),
            _ => value.clone(),
        }
    }
}

fn shown_row(keys: &[Key], row: &Value) -> Value {
    let Value::Table(row) = row else { return Value::from(REDACTED) };
    let shown = |(name, value): (&String, &Value)| {
        let value = keys.iter().find(|key| key.name == name).map_or(Value::from(REDACTED), |key| key.shown(value));
        (name.clone(), value)
    };
    Value::Table(row.iter().map(shown).collect())
}

/// Replaces everything between `://` and the last `@`, because an unescaped password may contain `/`, `:` and `@`.
/// Replaces everything after a `?` too, because the password of the Sentinels is there. Where the rest is not plainly
/// hosts and a path, it may be a part of a password that was cut in the wrong place: everything is replaced.
fn redact_url_user(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    let (user, after) = rest.rsplit_once('@').map_or((None, rest), |(user, after)| (Some(user), after));
    let (hosts, query) = after.split_once('?').map_or((after, None), |(hosts, query)| (hosts, Some(query)));
    if user.is_some_and(|user| user.contains('?')) || !is_plain_authority(hosts) {
        return format!("{scheme}{REDACTED}");
    }
    let user = if user.is_some() { format!("{REDACTED}@") } else { String::new() };
    let query = if query.is_some() { format!("?{REDACTED}") } else { String::new() };
    format!("{scheme}{user}{hosts}{query}")
}

/// Whether the text is hosts with ports, and behind a `/` letters, digits and `/`.
fn is_plain_authority(text: &str) -> bool {
    let (hosts, path) = text.split_once('/').unwrap_or((text, ""));
    let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_host = |host: &str| {
        let name_end = host.rfind(']').map_or_else(|| host.find(':').unwrap_or(host.len()), |at| at + 1);
        let (name, port) = host.split_at(name_end);
        let is_address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_name = match is_address {
            Some(address) => address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
            None => !name.is_empty() && is_word(name),
        };
        is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
    };
    hosts.split(',').all(is_host) && path.split('/').all(is_word)
}

impl ValueKind {
    /// The text that follows "expected " in a problem.
    fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Number { unit, min, max } => format!("a whole number of {unit} from {min} to {max}"),
            Self::Choice(words) => words.join(" or "),
            Self::Text { expected, .. } | Self::Texts { expected, .. } => (*expected).into(),
            Self::File => "the name of a file".into(),
            Self::Rows(keys) => {
                let names = keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
                format!("a list of tables with the keys {names}, written in TOML or JSON")
            }
        }
    }

    /// Resolves the names of files in a value that was read from a file in `folder`.
    pub(crate) fn resolve_files(&self, value: Value, folder: &Path) -> Value {
        match (self, value) {
            (Self::File, Value::String(name)) if !name.is_empty() => {
                Value::from(folder.join(name).to_string_lossy().into_owned())
            }
            (Self::Rows(keys), Value::Array(rows)) => {
                let resolve_row = |row| match row {
                    Value::Table(row) => {
                        let resolve = |(name, value): (String, Value)| match keys.iter().find(|key| key.name == name) {
                            Some(key) => (name, key.kind.resolve_files(value, folder)),
                            None => (name, value),
                        };
                        Value::Table(row.into_iter().map(resolve).collect())
                    }
                    other => other,
                };
                Value::Array(rows.into_iter().map(resolve_row).collect())
            }
            (_, value) => value,
        }
    }

    /// Returns the value in its canonical form, or `None` if the key does not accept it. Rows of a list are not
    /// checked.
    fn accept(&self, value: Value) -> Option<Value> {
        let fits = match (self, &value) {
            (Self::Flag, Value::Boolean(_)) => true,
            (Self::Number { min, max, .. }, Value::Integer(number)) => (min..=max).contains(&number),
            (Self::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
            (Self::Text { accepts, .. }, Value::String(text)) => accepts(text),
            (Self::File, Value::String(text)) => !text.is_empty() && !text.contains(is_invisible),
            (Self::Texts { .. }, Value::String(_)) => return self.accept(Value::Array(vec![value])),
            (Self::Texts { accepts, .. }, Value::Array(list)) => {
                list.iter().all(|item| item.as_str().is_some_and(accepts))
            }
            (Self::Rows(_), Value::Array(rows)) => rows.iter().all(Value::is_table),
            _ => false,
        };
        fits.then_some(value)
    }

    /// Converts a text from the environment or a flag to a value of this kind. [`Self::accept`] then decides whether
    /// the key accepts it.
    pub(crate) fn read_text(&self, text: &str) -> Value {
        match self {
            Self::Text { .. } | Self::File | Self::Choice(_) => None,
            Self::Texts { .. } if !text.trim_start().starts_with('[') => {
                Some(Value::Array(text.split(',').map(|item| Value::from(item.trim())).collect()))
            }
            Self::Flag | Self::Number { .. } | Self::Texts { .. } => parse_toml_value(text),
            // Compose files, Helm charts and secret stores write JSON.
            Self::Rows(_) => parse_toml_value(text).or_else(|| serde_json::from_str(text).ok()),
        }
        .unwrap_or_else(|| Value::from(text))
    }
}

/// Parses the text that follows `=` in a TOML file.
pub(crate) fn parse_toml_value(text: &str) -> Option<Value> {
    let mut table = format!("value = {text}").parse::<toml::Table>().ok()?;
    // A line break in `text` could add further keys.
    if table.len() == 1 { table.remove("value") } else { None }
}
