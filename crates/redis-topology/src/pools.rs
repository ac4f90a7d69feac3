//! Connections to whichever server has a slot: a pool for each, and the place forgotten when it has proven wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use keyspace::Slot;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::{Instant, sleep};

use crate::node::Node;
use crate::target::{LocateError, Place, Target};

/// Between two tries while a cluster moves a slot: small ones take a few milliseconds.
const MOVING_PAUSE: Duration = Duration::from_millis(20);

/// A handle: clones share the pools.
#[derive(Debug, Clone)]
pub struct Pools {
    target: Target,
    connections_max: usize,
    deadline: Duration,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Nothing before the first call, and after it has proven wrong.
    place: Option<Place>,
    /// Those of servers that are not primaries any more go when the next place is known.
    pools: HashMap<Node, Pool>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// Nobody says where to connect to.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The pool cannot be made.
    #[error("the connection pool: {0}")]
    Build(String),
    /// The server does not take the connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl Pools {
    /// Connects when first used; `deadline` is for each step.
    #[must_use]
    pub fn new(target: Target, connections_max: usize, deadline: Duration) -> Self {
        Self { target, connections_max, deadline, known: Arc::default() }
    }

    /// A connection to the server that has a slot, as far as anybody knows.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connection(&self, slot: Slot) -> Result<Connection, PoolsError> {
        let pool = match self.pool(slot)? {
            Some(pool) => pool,
            None => {
                let place = self.target.find().await?;
                self.known().place = Some(place);
                self.pool(slot)?.ok_or(LocateError::Unserved(slot.number()))?
            }
        };
        let connection = pool.get().await;
        if connection.is_err() {
            // The server is gone, and another may have its place.
            self.forget();
        }
        Ok(connection?)
    }

    /// Something is not where it was thought to be.
    pub fn forget(&self) {
        self.known().place = None;
    }

    /// Whether an error says that another node of a cluster is to be asked, or this one again in a moment, and there
    /// is time for it. Waits for that moment.
    pub async fn redirected(&self, error: &RedisError, deadline: Instant) -> bool {
        let ErrorKind::Server(kind) = error.kind() else { return false };
        // A slot on its way, and one that nobody has yet: to follow ASK is not worth it for what takes so little time.
        let moving = [ServerErrorKind::Ask, ServerErrorKind::TryAgain, ServerErrorKind::ClusterDown].contains(&kind);
        if !(moving || kind == ServerErrorKind::Moved) || Instant::now() + MOVING_PAUSE >= deadline {
            return false;
        }
        self.forget();
        sleep(MOVING_PAUSE).await;
        true
    }

    /// Nothing when the place must be found first.
    fn pool(&self, slot: Slot) -> Result<Option<Pool>, PoolsError> {
        let mut known = self.known();
        let Known { place, pools } = &mut *known;
        let Some(place) = place else { return Ok(None) };
        let node = place.node(slot)?;
        if let Some(pool) = pools.get(node) {
            return Ok(Some(pool.clone()));
        }
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let manager = Manager::new_with_config(self.target.info(node), limits).map_err(PoolError::Backend)?;
        let pool = Pool::builder(manager).max_size(self.connections_max).build();
        let pool = pool.map_err(|error| PoolsError::Build(error.to_string()))?;
        pools.retain(|node, _| place.has(node));
        pools.insert(node.clone(), pool.clone());
        Ok(Some(pool))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding it")
    }
}
