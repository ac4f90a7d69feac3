//! The words, bounds and shapes of keys that several modules know.

use message_router::ShardIndex;

/// Largest number of shards. On a machine with more cores the default is this number.
pub(super) const SHARDS_MAX: i64 = ShardIndex::COUNT_MAX as i64;

/// The words of `limits.on_excess`.
pub(super) const ON_EXCESS: &[&str] = &["reject", "close_oldest"];

/// The words of `http.forwarded_header`.
pub(super) const FORWARDED_HEADER: &[&str] = &["x-forwarded-for", "forwarded"];

/// The words of `on_isolation` of a family.
pub(super) const ON_ISOLATION: &[&str] = &["local", "read_only"];

/// The words of `on_slow` of a family.
pub(super) const ON_SLOW: &[&str] = &["catch_up", "latest", "close"];

/// The words of `acknowledge` of a family.
pub(super) const ACKNOWLEDGE: &[&str] = &["stored", "replicated"];
pub(super) const ALGORITHMS: &[&str] = &["HS256", "RS256", "ES256", "EdDSA"];

/// The words of `http.session_cookie_secure`.
pub(super) const SECURE: &[&str] = &["auto", "always", "never"];

/// Whether a key accepts `path`: absolute, in characters that no proxy and no browser rewrites.
pub(super) fn is_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        !segment.is_empty() && segment.bytes().all(is_plain) && segment != "." && segment != ".."
    };
    path.strip_prefix('/')
        .is_some_and(|path| path.is_empty() || path.strip_suffix('/').unwrap_or(path).split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        for path in ["/", "/ws", "/ws/", "/app/realtime", "/.well-known/ws", "/v1.0/~x_-"] {
            assert!(is_path(path), "{path}");
        }
        for path in [
            "", "ws", "//", "/ws//", "//ws", "/a//b", "/a/../b", "/./a", "/a b", "/%20", "/ws?x", "/ws#x", "/*",
            "/\u{fc}",
        ] {
            assert!(!is_path(path), "{path}");
        }
    }
}
