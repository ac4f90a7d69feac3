//! Reads that Redis refuses each time: a key that another program has written, or a missing permission. Each reason is
//! in the log now and then, however often the scope is read.

use std::time::Duration;

use hashbrown::HashMap;
use redis_topology::{CommandError, ErrorReply};
use tokio::time::Instant;

/// Time after which the same refusal is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How newer servers begin an error about a missing permission. Redis 7.0 begins it with `ERR` within a function.
const NO_PERMISSION: &str = "NOPERM";
/// Most refusals that are remembered.
const REMEMBERED_MAX: usize = 64;

/// The refusals that have been logged, with the time.
#[derive(Debug, Default)]
pub(super) struct RefusedScopes(HashMap<String, Instant>);

impl RefusedScopes {
    /// Logs the error if the same read will be refused again until somebody does something about it.
    pub(super) fn note(&mut self, error: &CommandError) {
        let CommandError::Refused(text) = error else { return };
        if !ErrorReply(text).is_lasting() && !text.starts_with(NO_PERMISSION) {
            return;
        }
        let now = Instant::now();
        if self.0.get(text).is_some_and(|logged| now < *logged + LOG_INTERVAL) {
            return;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, logged| now < *logged + LOG_INTERVAL);
        }
        if self.0.len() < REMEMBERED_MAX {
            tracing::error!(error = text, "scope refused");
            self.0.insert(text.clone(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_must_mend_is_logged_and_a_passing_state_is_not() {
        let mut refused = RefusedScopes::default();
        let lasting = [
            "BADSCOPE KEY is no stream",
            "ERR The user executing the script can't run this command or subcommand",
            "NOPERM User gateway has no permissions to run the 'xrange' command",
        ];
        for text in lasting.into_iter().chain(lasting) {
            refused.note(&CommandError::Refused(text.into()));
        }
        let passing = ["OOM command not allowed", "LOADING Redis is loading", "ERR Function not found"];
        passing.iter().for_each(|text| refused.note(&CommandError::Refused((*text).into())));
        refused.note(&CommandError::Late);
        let mut logged: Vec<_> = refused.0.keys().map(String::as_str).collect();
        logged.sort_unstable();
        assert_eq!(logged, lasting);
    }
}
