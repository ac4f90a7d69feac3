//! The fleet's registry, asked from the shell.

use connection_registry::{RedisStore, RedisStoreConfig, StoreError, Timings};
use keyspace::Keyspace;
use tidegate_gateway::config::PublishConfig;

use super::Exit;

/// Asks the registry one thing; what is done with the answer says how the command ends.
pub(super) fn ask_registry<T>(
    config: &PublishConfig,
    question: impl AsyncFnOnce(&RedisStore) -> Result<T, StoreError>,
    tell: impl FnOnce(T) -> Exit,
) -> Exit {
    let store = RedisStore::new(RedisStoreConfig {
        target: config.redis.target.clone(),
        connections_max: 1,
        keyspace: Keyspace::new(config.redis.prefix.clone()),
        library: config.policies.library(),
        // A person may wait for an answer for longer than an instance with beats to keep.
        timings: Timings { call: config.redis.reply_deadline, ..Timings::default() },
        limits: config.connections,
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    match runtime.block_on(question(&store)) {
        Ok(answer) => tell(answer),
        Err(error @ StoreError::NoAnswer(_)) => Exit::Unknown.because(error),
        Err(error) => Exit::Unavailable.because(error),
    }
}
