//! Runs one query on the fleet's registry.

use connection_registry::{RedisStore, RedisStoreConfig, StoreError, Timings};
use keyspace::Keyspace;
use tidegate_gateway::config::PublishConfig;

use super::Exit;

/// Runs `question` on the registry. `tell` turns the answer into the end of the command.
pub(super) fn ask_registry<T>(
    config: &PublishConfig,
    question: impl AsyncFnOnce(&RedisStore) -> Result<T, StoreError>,
    tell: impl FnOnce(T) -> Exit,
) -> Exit {
    let store = RedisStore::new(store_config(config));
    block_on(question(&store), tell)
}

/// The configuration of a registry that one command uses.
pub(super) fn store_config(config: &PublishConfig) -> RedisStoreConfig {
    RedisStoreConfig {
        target: config.redis.target.clone(),
        connections_max: 1,
        keyspace: Keyspace::new(config.redis.prefix.clone()),
        library: config.policies.library(),
        // A person can wait longer for an answer than an instance that must send heartbeats.
        timings: Timings { call: config.redis.reply_deadline, ..Timings::default() },
        limits: config.connections,
    }
}

/// Waits for an answer of Redis. `tell` turns it into the end of the command.
pub(super) fn block_on<T>(question: impl Future<Output = Result<T, StoreError>>, tell: impl FnOnce(T) -> Exit) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    match runtime.block_on(question) {
        Ok(answer) => tell(answer),
        Err(error) if error.may_have_been_done() => Exit::Unknown.because(error),
        Err(error) => Exit::Unavailable.because(error),
    }
}
