//! Connections to the server that has a slot: a pool and a [`Breaker`] for each server. The known location is
//! forgotten when it has proven wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deadpool_redis::{Pool, PoolError};
use keyspace::Slot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::breaker::{Breaker, PAUSE};
use crate::node::Node;
use crate::pooled::{PooledConnection, manager};
use crate::redirection::Redirection;
use crate::slots::Slots;
use crate::target::{LocateError, PrimaryLocation, Target};

/// Pools of connections by server. A handle: clones share the pools.
#[derive(Debug, Clone)]
pub struct Pools {
    target: Target,
    connections_max: usize,
    deadline: Duration,
    state: Arc<Mutex<PoolState>>,
}

#[derive(Debug)]
struct PoolState {
    /// Nothing before the first call, and after the location has proven wrong.
    place: Option<PrimaryLocation>,
    /// Owners of slots in a cluster, from all maps and redirections so far.
    slots: Slots,
    /// Breaker for queries of the Sentinels or of the cluster's map.
    locator: Guard,
    /// Servers that are no primaries any more are removed when a new one is added.
    servers: HashMap<Node, Server>,
    /// The certificates with which the pools were made.
    certificates: u64,
    opens: u64,
    refused: u64,
}

/// A server and its pool.
#[derive(Debug)]
struct Server {
    pool: Pool,
    guard: Guard,
}

/// A breaker, and the newest failure that it was told of.
#[derive(Debug)]
struct Guard {
    breaker: Breaker,
    /// In the words of the server, if it has answered: a refusal is no silence.
    failure: String,
}

/// Numbers about the breakers, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Servers that are not called at the moment, except for trials.
    pub open: u64,
    /// How often a breaker has opened.
    pub opens: u64,
    /// Calls that an open breaker has refused.
    pub refused: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// The location of the server is unknown.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The pool cannot be made.
    #[error("the connection pool: {0}")]
    Build(String),
    /// The server does not accept the connection; the words are those of the server or of the network.
    #[error("{0}")]
    Connect(String),
    /// There was no connection in time.
    #[error("no connection in time")]
    Late,
    /// The last calls have failed, the newest one with these words. The server is tried again within a second.
    #[error("{0} (the last calls failed, and this one was not made)")]
    Open(String),
}

impl Pools {
    /// Connects when first used. `deadline` is for each step, and for a whole call.
    #[must_use]
    pub fn new(target: Target, connections_max: usize, deadline: Duration) -> Self {
        let state = PoolState {
            place: None,
            slots: Slots::default(),
            locator: Guard::new(deadline),
            servers: HashMap::new(),
            certificates: target.certificates(),
            opens: 0,
            refused: 0,
        };
        Self { target, connections_max, deadline, state: Arc::new(Mutex::new(state)) }
    }

    /// A connection to the server that has a slot, as far as it is known. The caller reports by [`Self::answered`] or
    /// [`Self::failed`] what became of its call.
    ///
    /// # Errors
    /// If there is no connection by `deadline`, and at once if the server is known not to answer.
    pub async fn connection(&self, slot: Slot, deadline: Instant) -> Result<PooledConnection, PoolsError> {
        let (node, pool) = match self.pool(slot)? {
            Some(found) => found,
            None => {
                self.find(deadline).await?;
                self.pool(slot)?.ok_or(LocateError::Unserved(slot.number()))?
            }
        };
        self.open(node, &pool, deadline).await
    }

    /// A connection to a server that a redirection named, whether or not the server is known to have slots. The caller
    /// reports in the same way.
    ///
    /// # Errors
    /// If there is no connection by `deadline`, and at once if the server is known not to answer.
    pub async fn connection_to(&self, node: &Node, deadline: Instant) -> Result<PooledConnection, PoolsError> {
        let pool = self.pool_of(&mut self.state(), node)?;
        self.open(node.clone(), &pool, deadline).await
    }

    async fn open(&self, node: Node, pool: &Pool, deadline: Instant) -> Result<PooledConnection, PoolsError> {
        let connection = timeout_at(deadline, pool.get()).await.map_err(|_| PoolsError::Late);
        let connection = connection.and_then(|got| {
            got.map_err(|error| match error {
                // Only the reason, without the pool's words about creating an object.
                PoolError::Backend(error) => PoolsError::Connect(error.to_string()),
                other => PoolsError::Connect(other.to_string()),
            })
        });
        match connection {
            Ok(connection) => Ok(PooledConnection::new(connection, node)),
            Err(error) => {
                self.failed(&node, &error.to_string());
                Err(error)
            }
        }
    }

    /// Queries the location of the servers.
    async fn find(&self, deadline: Instant) -> Result<(), PoolsError> {
        self.state().admit(|state| Some(&mut state.locator))?;
        let place = timeout_at(deadline, self.target.find()).await;
        let place = place.map_err(|_| PoolsError::Late).and_then(|found| found.map_err(PoolsError::Locate));
        let mut state = self.state();
        match place {
            Ok(place) => {
                state.locator.breaker.answered();
                if let PrimaryLocation::Map(map) = &place {
                    let PoolState { slots, servers, .. } = &mut *state;
                    slots.learn(map, |node| answers(servers, node));
                }
                state.place = Some(place);
                Ok(())
            }
            Err(error) => {
                let opens = state.locator.failed(&error.to_string());
                state.opens += u64::from(opens);
                drop(state);
                if opens {
                    tracing::info!(redis = %self.target, %error, retry = ?PAUSE, "Redis not located");
                }
                Err(error)
            }
        }
    }

    /// Reports that the server has answered a call, with a result or an error.
    pub fn answered(&self, node: &Node) {
        let mut state = self.state();
        if state.servers.get_mut(node).is_some_and(|server| server.guard.breaker.answered()) {
            drop(state);
            tracing::info!(%node, "circuit breaker closed");
        }
    }

    /// Reports that the server did not answer a call or did not accept a connection: another server may have its
    /// slots. Callers that depend on the server report their own failures, so this is logged for information.
    pub fn failed(&self, node: &Node, failure: &str) {
        let mut state = self.state();
        state.place = None;
        let opens = state.servers.get_mut(node).is_some_and(|server| server.guard.failed(failure));
        state.opens += u64::from(opens);
        drop(state);
        if opens {
            tracing::info!(%node, reason = failure, retry = ?PAUSE, "circuit breaker opened");
        }
    }

    /// The numbers about all breakers.
    #[must_use]
    pub fn counts(&self) -> BreakerCounts {
        let state = self.state();
        let breakers = state.servers.values().map(|server| &server.guard).chain([&state.locator]);
        let open = breakers.filter(|guard| guard.breaker.is_open()).count() as u64;
        BreakerCounts { open, opens: state.opens, refused: state.refused }
    }

    /// Takes in what the server of this connection has said, and waits for as long as the move of a small slot takes.
    /// Returns the redirection to follow: after `MOVED` its node may be another one, whose claim is known to be newer.
    pub async fn redirected(&self, connection: PooledConnection, redirection: Redirection) -> Redirection {
        let redirection = self.forget_place(redirection, connection.node());
        // The connection is returned before the wait, so that other calls can use it.
        drop(connection);
        sleep(Redirection::PAUSE).await;
        redirection
    }

    /// Forgets the location: it is older than the redirection of `from`.
    fn forget_place(&self, redirection: Redirection, from: &Node) -> Redirection {
        let mut state = self.state();
        state.place = None;
        let Redirection::Moved(slot, to) = redirection else { return redirection };
        let PoolState { slots, servers, .. } = &mut *state;
        let to = slots.moved(slot, from, &to, |node| answers(servers, node));
        Redirection::Moved(slot, to)
    }

    /// The server that has a slot, and its pool. Nothing if the location must be queried first.
    fn pool(&self, slot: Slot) -> Result<Option<(Node, Pool)>, PoolsError> {
        let mut state = self.state();
        let PoolState { place, slots, .. } = &mut *state;
        // An old primary may answer for a while after a failover, and what it is told then is lost.
        place.take_if(|place| !self.target.is_current(place));
        let node = match place {
            None => return Ok(None),
            Some(PrimaryLocation::One(node)) => node.clone(),
            Some(PrimaryLocation::Map(_)) => slots.owner(slot).ok_or(LocateError::Unserved(slot.number()))?.clone(),
        };
        let pool = self.pool_of(&mut state, &node)?;
        Ok(Some((node, pool)))
    }

    /// The pool of a server, which is made if there is none. Refused while the server's breaker is open.
    fn pool_of(&self, state: &mut PoolState, node: &Node) -> Result<Pool, PoolsError> {
        let PoolState { slots, servers, certificates, .. } = &mut *state;
        let newest = self.target.certificates();
        if std::mem::replace(certificates, newest) != newest {
            // Connections that are in use end with their calls.
            servers.clear();
        }
        if !servers.contains_key(node) {
            let server = Server { pool: self.new_pool(node)?, guard: Guard::new(self.deadline) };
            let primaries = slots.nodes();
            servers.retain(|node, _| primaries.contains(node));
            servers.insert(node.clone(), server);
        }
        state.admit(|state| state.servers.get_mut(node).map(|server| &mut server.guard))?;
        Ok(state.servers[node].pool.clone())
    }

    fn new_pool(&self, node: &Node) -> Result<Pool, PoolsError> {
        let manager = manager(self.target.info(node), self.deadline);
        let manager = manager.map_err(|error| PoolsError::Build(error.to_string()))?;
        let pool = Pool::builder(manager).max_size(self.connections_max).build();
        pool.map_err(|error| PoolsError::Build(error.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl PoolState {
    /// Asks a breaker whether a call may go.
    fn admit(&mut self, of: impl FnOnce(&mut Self) -> Option<&mut Guard>) -> Result<(), PoolsError> {
        let refusing =
            of(self).and_then(|guard| (!guard.breaker.admits(Instant::now())).then(|| guard.failure.clone()));
        let Some(failure) = refusing else { return Ok(()) };
        self.refused += 1;
        Err(PoolsError::Open(failure))
    }
}

impl Guard {
    fn new(deadline: Duration) -> Self {
        Self { breaker: Breaker::new(deadline), failure: String::new() }
    }

    /// Returns whether this opens the breaker.
    fn failed(&mut self, failure: &str) -> bool {
        failure.clone_into(&mut self.failure);
        self.breaker.failed(Instant::now())
    }
}

/// Whether the node is not known to be silent. A node that was never called may answer.
fn answers(servers: &HashMap<Node, Server>, node: &Node) -> bool {
    servers.get(node).is_none_or(|server| !server.guard.breaker.is_open())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use test_support::{RedisServer, StagedSentinel};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Topology;
    use crate::breaker::FAILURES_MAX;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn ask(pools: &Pools) -> Result<PooledConnection, PoolsError> {
        pools.connection(Slot::of("a"), Instant::now() + DEADLINE).await
    }

    #[tokio::test]
    async fn who_knows_where_redis_is_and_does_not_answer_is_left_alone_for_moments() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let target = Target::parse(&format!("redis+sentinel://{address}/main")).unwrap();
        let pools = Pools::new(target, 1, DEADLINE);
        for _ in 0..FAILURES_MAX {
            assert!(matches!(ask(&pools).await, Err(PoolsError::Locate(_))));
        }
        let open = BreakerCounts { open: 1, opens: 1, refused: 0 };
        assert_eq!(pools.counts(), open);
        // A busy machine may come back only when it is time for a trial.
        let begun = Instant::now();
        while !matches!(ask(&pools).await, Err(PoolsError::Open(_))) {
            assert!(begun.elapsed() < DEADLINE, "it is tried each time");
        }
        assert_eq!(pools.counts(), BreakerCounts { refused: 1, ..open });
        let refused_since = Instant::now();
        while matches!(ask(&pools).await, Err(PoolsError::Open(_))) {
            assert!(refused_since.elapsed() < DEADLINE, "it is never tried again");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(pools.counts().refused >= 1 && pools.counts().opens == 1, "{:?}", pools.counts());
    }

    /// The old primary still answers, so only the report of a Sentinel shows the failover.
    #[tokio::test]
    async fn a_primary_that_another_has_replaced_is_called_no_more() {
        let servers = [RedisServer::start(&[]), RedisServer::start(&[])];
        let [old, new] = [0, 1].map(|index: usize| servers[index].port());
        let staged = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, old));
        let target = Target::parse(&StagedSentinel::url(&staged)).unwrap();
        let pools = Pools::new(target.clone(), 1, DEADLINE);
        assert_eq!(ask(&pools).await.unwrap().node().port, old);
        let Topology::Sentinel(sentinels) = target.topology() else { panic!("they are Sentinels") };
        sentinels.reported(Node { host: "127.0.0.1".into(), port: new }, 7);
        assert_eq!(ask(&pools).await.unwrap().node().port, new, "all three Sentinels name the old one");
        pools.failed(&Node { host: "127.0.0.1".into(), port: new }, "a test says so");
        assert_eq!(ask(&pools).await.unwrap().node().port, new, "and do so when they are asked again");
    }

    /// A node of a cluster that answers each query for the map with the next of these owners and epochs.
    async fn node_of_a_cluster(owners: Vec<(u16, u64)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for (port, epoch) in owners {
                let (mut stream, _) = listener.accept().await.unwrap();
                let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n+127.0.0.1\r\n:{port}\r\n+67ed\r\n");
                let line = format!("67ed 192.0.2.1:{port}@17000 master - 0 0 {epoch} connected 0-16383\n");
                for answer in [slots, format!("${}\r\n{line}\r\n", line.len())] {
                    let _ = stream.read(&mut [0; 1024]).await.unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_older_map_of_a_cluster_does_not_lead_back() {
        let [old, new] = [7001, 7002];
        let address = node_of_a_cluster(vec![(old, 3), (new, 4), (old, 3), (new, 4)]).await;
        let pools = Pools::new(Target::parse(&format!("redis+cluster://{address}")).unwrap(), 1, DEADLINE);
        let node = |port| Node { host: "127.0.0.1".into(), port };
        let found = async || {
            pools.find(Instant::now() + DEADLINE).await.unwrap();
            pools.pool(Slot::of("a")).unwrap().unwrap().0
        };
        assert_eq!(found().await, node(old));
        assert_eq!(found().await, node(new));
        assert_eq!(found().await, node(new), "the map that came last is older");
        // The redirection of the owner itself is newer than the map behind it.
        let moved = Redirection::Moved(Slot::of("a"), node(old));
        assert_eq!(pools.forget_place(moved.clone(), &node(new)), moved);
        assert_eq!(found().await, node(old));
    }
}
