//! Whose a variable is: a key's, a typo's, or another program's. The environment is not the gateway's alone.

use std::net::IpAddr;

use super::key::{KEYS, Key};
use super::nearest::{distance, nearest};

/// The variable that names the configuration file. It is the only variable that is not a key.
pub(super) const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";

/// Names that people expect, and the keys that they mean.
const EXPECTED: [(&str, &str); 6] = [
    ("PORT", "listen"),
    ("HOST", "listen"),
    ("SECRET", "auth.keys"),
    ("PASSWORD", "redis.url"),
    ("ORIGINS", "http.allowed_origins"),
    ("FAMILY", "families"),
];

/// Kubernetes and Docker set variables such as `TIDEGATE_SERVICE_HOST` and `TIDEGATE_PORT_8080_TCP` in every pod of a
/// namespace that has a Service called `tidegate…`, and in every container that is linked with one. Their values tell
/// them from what a person writes: `TIDEGATE_PORT=8080` is no link.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = || value.parse::<u16>().is_ok();
    let is_protocol = |text: &str| matches!(text, "tcp" | "udp" | "sctp");
    let is_url = || value.split_once("://").is_some_and(|(scheme, _)| is_protocol(scheme));
    if name.ends_with("_SERVICE_HOST") {
        return value.parse::<IpAddr>().is_ok();
    }
    if name.contains("_SERVICE_PORT") {
        return is_port();
    }
    // _PORT_8080_TCP, _PORT_8080_TCP_ADDR
    let numbered = |rest: &str| {
        let mut words = rest.split('_');
        let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
        number && words.next().is_some_and(|word| is_protocol(&word.to_ascii_lowercase()))
    };
    match name.split("_PORT_").skip(1).any(numbered) {
        true => is_url() || value.parse::<IpAddr>().is_ok() || is_port() || is_protocol(value),
        false => name.ends_with("_PORT") && is_url(),
    }
}

/// The variable that an unknown one is most likely meant to be. `None` if it resembles none: images and charts set
/// `TIDEGATE_VERSION` and similar for themselves.
pub(super) fn resembles(name: &str) -> Option<String> {
    let known = || KEYS.iter().map(Key::variable).chain([FILE_VARIABLE.to_owned()]);
    let rest = name.strip_prefix("TIDEGATE_").unwrap_or(name);
    if let Some((_, key)) = EXPECTED.iter().find(|(expected, _)| *expected == rest) {
        return Key::find(key).map(Key::variable);
    }
    let typos = (rest.len() / 3).min(3);
    let is_near = |variable: &String| {
        let key = &variable["TIDEGATE_".len()..];
        // The first word is a section, or most of a key: LOG_LEVEL, LISTEN_PORT. The section may be missing:
        // PING_INTERVAL_MS. The value may come by a file, as in other images: REDIS_URL_FILE.
        let first = |text: &str| text.split('_').next().unwrap_or_default().to_owned();
        first(key) == first(rest) || key.ends_with(&format!("_{rest}")) || distance(rest, key) <= typos
    };
    known().any(|variable| is_near(&variable)).then(|| nearest(name, known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_known_by_their_values() {
        for (name, value) in [
            ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("TIDEGATE_SERVICE_HOST", "fd00::1"),
            ("TIDEGATE_SERVICE_PORT_WS", "8080"),
            ("TIDEGATE_PORT", "tcp://10.0.0.1:8080"),
            ("TIDEGATE_REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("TIDEGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("TIDEGATE_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("TIDEGATE_PORT_53_UDP_PROTO", "udp"),
            ("TIDEGATE_PORT_53_UDP_PORT", "53"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("TIDEGATE_PORT", "8080"),
            ("TIDEGATE_LISTEN_PORT", "8080"),
            ("TIDEGATE_SERVICE_HOST", "gateway.example"),
            ("TIDEGATE_PORT_8080_TCP", "yes"),
            ("TIDEGATE_PORT_WS", "tcp://10.0.0.1:80"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn typos_resemble_a_key_and_variables_of_other_programs_do_not() {
        for (name, meant) in [
            ("TIDEGATE_LISTN", "TIDEGATE_LISTEN"),
            ("TIDEGATE_INSTANCES", "TIDEGATE_INSTANCE"),
            ("TIDEGATE_SHARD", "TIDEGATE_SHARDS"),
            ("TIDEGATE_REDIS_URI", "TIDEGATE_REDIS_URL"),
            ("TIDEGATE_REDISURL", "TIDEGATE_REDIS_URL"),
            ("TIDEGATE_RDIS_URL", "TIDEGATE_REDIS_URL"),
            ("TIDEGATE_PING_INTERVAL_MS", "TIDEGATE_LIMITS_PING_INTERVAL_MS"),
            ("TIDEGATE_PORT", "TIDEGATE_LISTEN"),
            ("TIDEGATE_SECRET", "TIDEGATE_AUTH_KEYS"),
            ("TIDEGATE_CONFG", "TIDEGATE_CONFIG"),
            ("TIDEGATE_LIMIT_PING_INTERVAL_MS", "TIDEGATE_LIMITS_PING_INTERVAL_MS"),
        ] {
            assert_eq!(resembles(name).as_deref(), Some(meant), "{name}");
        }
        for name in ["LISTEN_PORT", "LOG_LEVEL", "CONFIG_FILE", "REDIS_PASSWORD", "AUTH_SECRET", "TLS_CA"] {
            assert!(resembles(&format!("TIDEGATE_{name}")).is_some(), "{name}");
        }
        for name in
            ["VERSION", "COMMIT", "IMAGE", "IMAGE_TAG", "BUILD_DATE", "HOME", "UID", "NAME", "ENV_PATH", "SHA256"]
        {
            assert_eq!(resembles(&format!("TIDEGATE_{name}")), None, "{name}");
        }
    }
}
