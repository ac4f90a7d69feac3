//! Waiting for a wake-up, on a connection of its own.

use std::time::Duration;

use redis::cmd;
use tokio::time::Instant;
use wire::InstanceId;

use super::RedisStore;
use crate::error::StoreError;

/// Duration of one wait. An idle instance costs Redis one command in this time.
pub(super) const WAIT: Duration = Duration::from_secs(10);

impl RedisStore {
    /// Waits until there are commands for an instance. Returns whether there are any.
    pub(super) async fn wait_for_commands(&self, id: &InstanceId) -> Result<bool, StoreError> {
        let connected = self.wakeup.connection(self.slot, Instant::now() + self.timings.call).await;
        let mut connection = connected.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let mut wait = cmd("BLPOP");
        wait.arg(self.keyspace.wakeup(id)).arg(WAIT.as_secs());
        match wait.query_async::<Option<(String, String)>>(&mut *connection).await {
            Ok(woken) => {
                self.wakeup.answered(connection.node());
                Ok(woken.is_some())
            }
            Err(error) => {
                // The primary may be another server now, and a late answer of this one would never be read.
                self.wakeup.failed(&connection.discard(), &error.to_string());
                Err(StoreError::Unreachable(error.to_string()))
            }
        }
    }
}
