//! Scopes whose keys another program has written. Each is named in the log now and then, however often it is read.

use std::time::Duration;

use hashbrown::HashMap;
use redis_topology::CommandError;
use tokio::time::Instant;

/// Time after which the same refusal is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Most refusals that are remembered.
const REMEMBERED_MAX: usize = 64;

/// The refusals that have been logged, with the time.
#[derive(Debug, Default)]
pub(super) struct RefusedScopes(HashMap<String, Instant>);

impl RefusedScopes {
    /// Logs the error if it says that a key of the scope is not ours. The error names the key.
    pub(super) fn note(&mut self, error: &CommandError) {
        let CommandError::Refused(text) = error else { return };
        if !text.starts_with(keyspace::BAD_SCOPE) {
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
