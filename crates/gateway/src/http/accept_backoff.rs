//! What to do when `accept(2)` fails.

use std::io;
use std::time::Duration;

/// Long enough not to spin, short enough not to be noticed once a descriptor is free again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long to leave the listener alone, or `None` when the error belongs to the one connection that failed.
///
/// Without descriptors (EMFILE, ENFILE) or memory the connection stays in the backlog and the next accept
/// fails at once: a loop that goes on takes the core that could close something.
pub(crate) fn accept_backoff(error: &io::Error) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => None,
        _ => Some(PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_for_want_of_descriptors_and_not_for_one_peer() {
        // EMFILE, ENFILE, ENOMEM: the same numbers on Linux and macOS.
        for errno in [24, 23, 12] {
            assert_eq!(accept_backoff(&io::Error::from_raw_os_error(errno)), Some(PAUSE), "{errno}");
        }
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(accept_backoff(&io::Error::from(kind)), None);
        }
    }
}
