//! Connections to whichever server has a slot: a pool and a [`Breaker`] for each, and the place forgotten when it has
//! proven wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use keyspace::Slot;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::{Instant, sleep, timeout_at};

use crate::breaker::{Breaker, PAUSE};
use crate::node::Node;
use crate::slots::Slots;
use crate::target::{LocateError, PrimaryLocation, Target};

/// Between two tries while a cluster moves a slot: small ones take a few milliseconds.
const MOVING_PAUSE: Duration = Duration::from_millis(20);

/// A handle: clones share the pools.
#[derive(Debug, Clone)]
pub struct Pools {
    target: Target,
    connections_max: usize,
    deadline: Duration,
    state: Arc<Mutex<PoolState>>,
}

#[derive(Debug)]
struct PoolState {
    /// Nothing before the first call, and after it has proven wrong.
    place: Option<PrimaryLocation>,
    /// Of a cluster: what all maps and redirections have said.
    slots: Slots,
    /// Of those who say where the servers are.
    locator: Breaker,
    /// Those that are not primaries any more go when the next place is known.
    servers: HashMap<Node, Server>,
    opens: u64,
    refused: u64,
}

/// One that has slots.
#[derive(Debug)]
struct Server {
    pool: Pool,
    breaker: Breaker,
}

/// A connection, and the server that it leads to.
pub struct PooledConnection {
    /// To be taken out of its pool when it is of no use any more.
    pub connection: Connection,
    /// For [`Pools::answered`] and [`Pools::failed`].
    pub node: Node,
}

/// What breakers have done, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Servers that are not called now, a trial now and then left out.
    pub open: u64,
    /// How often that began.
    pub opens: u64,
    /// Calls that were refused for it.
    pub refused: u64,
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
    #[error("{}", reason(.0))]
    Pool(#[from] PoolError),
    /// There was none in time.
    #[error("no connection in time")]
    Late,
    /// The server has not answered lately, and is asked again in a moment.
    #[error("the last calls were not answered; this one was not made")]
    Open,
}

/// What the server or the network said, without the pool's own words about creating an object.
fn reason(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl Pools {
    /// Connects when first used; `deadline` is for each step, and for a whole call.
    #[must_use]
    pub fn new(target: Target, connections_max: usize, deadline: Duration) -> Self {
        let state = PoolState {
            place: None,
            slots: Slots::default(),
            locator: Breaker::new(deadline),
            servers: HashMap::new(),
            opens: 0,
            refused: 0,
        };
        Self { target, connections_max, deadline, state: Arc::new(Mutex::new(state)) }
    }

    /// A connection to the server that has a slot, as far as anybody knows. What becomes of the call on it is to be
    /// told by [`Self::answered`] or [`Self::failed`].
    ///
    /// # Errors
    /// When there is none by `deadline`; at once when the server is known not to answer.
    pub async fn connection(&self, slot: Slot, deadline: Instant) -> Result<PooledConnection, PoolsError> {
        let (node, pool) = match self.pool(slot)? {
            Some(found) => found,
            None => {
                self.find(deadline).await?;
                self.pool(slot)?.ok_or(LocateError::Unserved(slot.number()))?
            }
        };
        let connection = timeout_at(deadline, pool.get()).await;
        let connection = connection.map_err(|_| PoolsError::Late).and_then(|got| got.map_err(PoolsError::Pool));
        match connection {
            Ok(connection) => Ok(PooledConnection { connection, node }),
            Err(error) => {
                self.failed(&node);
                Err(error)
            }
        }
    }

    /// Asks where the servers are.
    async fn find(&self, deadline: Instant) -> Result<(), PoolsError> {
        self.state().admit(|state| Some(&mut state.locator))?;
        let place = timeout_at(deadline, self.target.find()).await;
        let place = place.map_err(|_| PoolsError::Late).and_then(|found| found.map_err(PoolsError::Locate));
        let mut state = self.state();
        match place {
            Ok(place) => {
                state.locator.answered();
                if let PrimaryLocation::Map(map) = &place {
                    let PoolState { slots, servers, .. } = &mut *state;
                    slots.learn(map, |node| answers(servers, node));
                }
                state.place = Some(place);
                Ok(())
            }
            Err(error) => {
                let opens = state.locator.failed(Instant::now());
                state.opens += u64::from(opens);
                drop(state);
                if opens {
                    tracing::warn!(redis = %self.target, %error, retry = ?PAUSE, "Redis not located");
                }
                Err(error)
            }
        }
    }

    /// The server has answered a call, if only by an error.
    pub fn answered(&self, node: &Node) {
        let mut state = self.state();
        if state.servers.get_mut(node).is_some_and(|server| server.breaker.answered()) {
            drop(state);
            tracing::info!(%node, "circuit breaker closed");
        }
    }

    /// The server did not answer a call, or does not take connections: another may have its place.
    pub fn failed(&self, node: &Node) {
        let mut state = self.state();
        state.place = None;
        let opens = state.servers.get_mut(node).is_some_and(|server| server.breaker.failed(Instant::now()));
        state.opens += u64::from(opens);
        drop(state);
        if opens {
            tracing::warn!(%node, retry = ?PAUSE, "circuit breaker opened");
        }
    }

    /// What breakers have done.
    #[must_use]
    pub fn counts(&self) -> BreakerCounts {
        let state = self.state();
        let breakers = state.servers.values().map(|server| &server.breaker).chain([&state.locator]);
        let open = breakers.filter(|breaker| breaker.is_open()).count() as u64;
        BreakerCounts { open, opens: state.opens, refused: state.refused }
    }

    /// Whether an error of this node says that another node of a cluster is to be asked, or this one again in a moment, and
    /// there is time for it. Waits for that moment.
    pub async fn redirected(&self, node: &Node, error: &RedisError, deadline: Instant) -> bool {
        let ErrorKind::Server(kind) = error.kind() else { return false };
        // A slot on its way, and one that nobody has yet: to follow ASK is not worth it for what takes so little time.
        let moving = [ServerErrorKind::Ask, ServerErrorKind::TryAgain, ServerErrorKind::ClusterDown].contains(&kind);
        if !(moving || kind == ServerErrorKind::Moved) || Instant::now() + MOVING_PAUSE >= deadline {
            return false;
        }
        self.forget_place(moved_to(error, node), node);
        sleep(MOVING_PAUSE).await;
        true
    }

    /// The map is old: what its node has said of one slot is newer.
    fn forget_place(&self, moved: Option<(Slot, Node)>, from: &Node) {
        let mut state = self.state();
        state.place = None;
        if let Some((slot, to)) = moved {
            let PoolState { slots, servers, .. } = &mut *state;
            slots.moved(slot, from, &to, |node| answers(servers, node));
        }
    }

    /// Nothing when the place must be found first.
    fn pool(&self, slot: Slot) -> Result<Option<(Node, Pool)>, PoolsError> {
        let mut state = self.state();
        let PoolState { place, slots, servers, .. } = &mut *state;
        // The old primary may answer for a while yet, and what it is told then is lost.
        place.take_if(|place| !self.target.is_current(place));
        let node = match place {
            None => return Ok(None),
            Some(PrimaryLocation::One(node)) => node.clone(),
            Some(PrimaryLocation::Map(_)) => slots.owner(slot).ok_or(LocateError::Unserved(slot.number()))?.clone(),
        };
        if !servers.contains_key(&node) {
            let server = Server { pool: self.new_pool(&node)?, breaker: Breaker::new(self.deadline) };
            let primaries = slots.nodes();
            servers.retain(|node, _| primaries.contains(node));
            servers.insert(node.clone(), server);
        }
        state.admit(|state| state.servers.get_mut(&node).map(|server| &mut server.breaker))?;
        let pool = state.servers[&node].pool.clone();
        Ok(Some((node, pool)))
    }

    fn new_pool(&self, node: &Node) -> Result<Pool, PoolsError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let manager = Manager::new_with_config(self.target.info(node), limits).map_err(PoolError::Backend)?;
        let pool = Pool::builder(manager).max_size(self.connections_max).build();
        pool.map_err(|error| PoolsError::Build(error.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl PoolState {
    /// Whether a breaker lets a call go.
    fn admit(&mut self, of: impl FnOnce(&mut Self) -> Option<&mut Breaker>) -> Result<(), PoolsError> {
        let admits = of(self).is_none_or(|breaker| breaker.admits(Instant::now()));
        if admits {
            return Ok(());
        }
        self.refused += 1;
        Err(PoolsError::Open)
    }
}

/// Whether nothing is known against a node. One that was never called may well answer.
fn answers(servers: &HashMap<Node, Server>, node: &Node) -> bool {
    servers.get(node).is_none_or(|server| !server.breaker.is_open())
}

/// What a MOVED says: the slot, and the node it names, which leaves its host out when it does not know it.
fn moved_to(error: &RedisError, from: &Node) -> Option<(Slot, Node)> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (address, slot) = error.redirect_node()?;
    let mut to = Node::parse(address)?;
    if to.host.is_empty() {
        to.host.clone_from(&from.host);
    }
    Slot::new(slot).map(|slot| (slot, to))
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
        while !matches!(ask(&pools).await, Err(PoolsError::Open)) {
            assert!(begun.elapsed() < DEADLINE, "it is tried each time");
        }
        assert_eq!(pools.counts(), BreakerCounts { refused: 1, ..open });
        let refused_since = Instant::now();
        while matches!(ask(&pools).await, Err(PoolsError::Open)) {
            assert!(refused_since.elapsed() < DEADLINE, "it is never tried again");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(pools.counts().refused >= 1 && pools.counts().opens == 1, "{:?}", pools.counts());
    }

    /// The old primary answers still, so nothing but that word can tell.
    #[tokio::test]
    async fn a_primary_that_another_has_replaced_is_called_no_more() {
        let servers = [RedisServer::start(&[]), RedisServer::start(&[])];
        let [old, new] = [0, 1].map(|index: usize| servers[index].port());
        let staged = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, old));
        let target = Target::parse(&StagedSentinel::url(&staged)).unwrap();
        let pools = Pools::new(target.clone(), 1, DEADLINE);
        assert_eq!(ask(&pools).await.unwrap().node.port, old);
        let Topology::Sentinel(sentinels) = target.topology() else { panic!("they are Sentinels") };
        sentinels.reported(Node { host: "127.0.0.1".into(), port: new }, 7);
        assert_eq!(ask(&pools).await.unwrap().node.port, new, "all three Sentinels name the old one");
        pools.failed(&Node { host: "127.0.0.1".into(), port: new });
        assert_eq!(ask(&pools).await.unwrap().node.port, new, "and do so when they are asked again");
    }

    /// A node of a cluster that answers each question for the map with the next of these.
    async fn node_of_a_cluster(maps: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for map in maps {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(format!("${}\r\n{map}\r\n", map.len()).as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn an_older_map_of_a_cluster_does_not_lead_back() {
        let claim =
            |port: u16, epoch: u64| format!("67ed 127.0.0.1:{port}@17000 master - 0 0 {epoch} connected 0-16383\n");
        let [old, new] = [7001, 7002];
        let address = node_of_a_cluster(vec![claim(old, 3), claim(new, 4), claim(old, 3), claim(new, 4)]).await;
        let pools = Pools::new(Target::parse(&format!("redis+cluster://{address}")).unwrap(), 1, DEADLINE);
        let node = |port| Node { host: "127.0.0.1".into(), port };
        let found = async || {
            pools.find(Instant::now() + DEADLINE).await.unwrap();
            pools.pool(Slot::of("a")).unwrap().unwrap().0
        };
        assert_eq!(found().await, node(old));
        assert_eq!(found().await, node(new));
        assert_eq!(found().await, node(new), "the map that came last is older");
        // The owner's own word is newer than the map that follows.
        let text = format!("-MOVED {} 127.0.0.1:{old}\r\n", Slot::of("a").number());
        let moved = redis::parse_redis_value(text.as_bytes()).unwrap().extract_error().unwrap_err();
        assert!(pools.redirected(&node(new), &moved, Instant::now() + DEADLINE).await);
        assert_eq!(found().await, node(old));
    }
}
