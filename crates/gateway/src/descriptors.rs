//! How many sockets the operating system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not clients': listeners, Redis, logs, epoll, and connections still in their handshake.
const RESERVED: u64 = 256;

/// Raises the soft limit to the hard one, and gives what `asked` for, or else all that the limit leaves.
pub(crate) fn connections_max(asked: Option<usize>) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let usable = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let allowed = usable.map_or(u64::MAX, |usable| usable.saturating_sub(RESERVED).max(1));
    match asked {
        Some(asked) if asked as u64 > allowed => {
            tracing::warn!(asked, allowed, "limits.connections_max is above what the descriptor limit allows");
            allowed
        }
        Some(asked) => asked as u64,
        None => allowed,
    }
}
