//! The number of sockets that the operating system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors that are not for clients: listeners, Redis, logs, epoll, and connections in their handshake.
const RESERVED: u64 = 256;
/// `OPEN_MAX` of macOS. macOS reports no hard limit but refuses every soft limit above this. Its shells start with
/// 256, which is only [`RESERVED`].
const SOFT_MAX_OF_MACOS: u64 = 10_240;

/// Raises the soft limit to the hard limit. Returns `asked`, but at most what the limit allows; without `asked`, all
/// that it allows.
pub(crate) fn connections_max(asked: Option<usize>) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum;
    let usable = raise(limit, |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok());
    let allowed = usable.map_or(u64::MAX, |usable| usable.saturating_sub(RESERVED).max(1));
    match asked {
        Some(asked) if asked as u64 > allowed => {
            tracing::warn!(configured = asked, allowed, "limits.connections_max lowered to the file descriptor limit");
            allowed
        }
        Some(asked) => asked as u64,
        None => allowed,
    }
}

/// Returns the soft limit after the attempt to raise it; `None` is no limit. `set` returns whether the system accepts
/// a limit.
fn raise(limit: Rlimit, set: impl Fn(Option<u64>) -> bool) -> Option<u64> {
    if set(limit.maximum) {
        return limit.maximum;
    }
    let lower = limit.maximum.map_or(SOFT_MAX_OF_MACOS, |maximum| maximum.min(SOFT_MAX_OF_MACOS));
    if limit.current.is_some_and(|current| current < lower) && set(Some(lower)) { Some(lower) } else { limit.current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_descriptors_as_the_system_lets_go_of() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raise(limit(Some(1_024), Some(524_288)), |_| true), Some(524_288));
        assert_eq!(raise(limit(Some(1_024), None), |_| true), None);
        assert_eq!(raise(limit(Some(1_024), Some(4_096)), |_| false), Some(1_024), "the limit cannot be raised");
        let macos = |soft: Option<u64>| soft.is_some_and(|soft| soft <= 10_240);
        assert_eq!(raise(limit(Some(256), None), macos), Some(10_240));
        assert_eq!(raise(limit(Some(65_536), None), macos), Some(65_536), "a limit that was raised before stays");
    }
}
