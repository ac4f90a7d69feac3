//! Decides how long to pause after a failed `accept(2)`.

use std::io;
use std::time::Duration;

/// Long enough to avoid a busy loop, and short enough that a free descriptor is used without a noticeable delay.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns how long to pause accepting, or `None` if the error concerns only the connection that failed.
///
/// Without descriptors (EMFILE, ENFILE) or memory the connection stays in the backlog and the next accept fails at
/// once. A loop without a pause would take the core that is needed to close connections.
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
        // EMFILE, ENFILE and ENOMEM have the same numbers on Linux and macOS.
        for errno in [24, 23, 12] {
            assert_eq!(accept_backoff(&io::Error::from_raw_os_error(errno)), Some(PAUSE), "{errno}");
        }
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(accept_backoff(&io::Error::from(kind)), None);
        }
    }
}
