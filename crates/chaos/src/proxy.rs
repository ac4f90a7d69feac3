//! A TCP proxy in front of Redis, in this process. It simulates network conditions.
//!
//! ```text
//!   gateway ──▶ listener ──▶ tunnel, one task each way ──▶ the current target
//!                              delay · hold replies · do not read one kind of traffic · cut · refuse
//! ```
//!
//! A tunnel recognises its traffic by the names that gateways and Sentinels give their connections, and by the first
//! words of replicas.

mod traffic;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use test_support::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

pub(crate) use self::traffic::Traffic;
use crate::failure::Failure;

const CHUNK_BYTES: usize = 16 * 1024;

/// The current conditions of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NetworkConditions {
    /// The server to which new connections go.
    pub(crate) target: SocketAddr,
    /// New connections are refused, and the old ones were closed.
    pub(crate) is_cut: bool,
    /// Each chunk waits a random time up to this value, in each direction.
    pub(crate) delay_max: Duration,
    /// The proxy keeps the replies of Redis.
    pub(crate) holds_replies: bool,
    /// The proxy does not read the replies of Redis in this traffic.
    pub(crate) unread: Option<Traffic>,
}

/// Counters of what the proxy did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) delayed: AtomicU64,
    pub(crate) held: AtomicU64,
    /// Number of tunnels that Redis ended.
    pub(crate) ended_by_redis: AtomicU64,
    pub(crate) respliced: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    conditions: watch::Sender<NetworkConditions>,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    /// The tasks end with the proxy.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Tunnel {
    /// Calls, until the first pieces show another kind of traffic.
    traffic: OnceLock<Traffic>,
    up: Arc<AsyncMutex<OwnedWriteHalf>>,
    down: Arc<AsyncMutex<OwnedWriteHalf>>,
    /// The task that reads from Redis, and the task that reads from the gateway.
    tasks: Mutex<Vec<AbortHandle>>,
    /// While this is true, no byte goes to Redis.
    is_paused: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr, random: Random) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::io("binding a proxy"))?;
        let address = listener.local_addr().map_err(Failure::io("binding a proxy"))?;
        let fair =
            NetworkConditions { target, is_cut: false, delay_max: Duration::ZERO, holds_replies: false, unread: None };
        let (conditions, _) = watch::channel(fair);
        let counts = Arc::<Counts>::default();
        let tunnels = Arc::<Mutex<Vec<Arc<Tunnel>>>>::default();
        let mut tasks = JoinSet::new();
        let acceptor = ProxyAcceptor {
            counts: Arc::clone(&counts),
            conditions: conditions.clone(),
            tunnels: Arc::clone(&tunnels),
        };
        tasks.spawn(acceptor.accept(listener, random));
        Ok(Self { address, counts, conditions, tunnels, _tasks: tasks })
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut NetworkConditions)) {
        self.conditions.send_modify(change);
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) -> usize {
        let cut = std::mem::take(&mut *self.tunnels.lock().unwrap_or_else(PoisonError::into_inner));
        for tunnel in &cut {
            tunnel.end();
        }
        self.counts.cut.fetch_add(cut.len() as u64, Ordering::Relaxed);
        cut.len()
    }

    /// Holds the data that gateways send on their connections for calls.
    pub(crate) fn pause_calls(&self) {
        self.calls().iter().for_each(|tunnel| _ = tunnel.is_paused.send_replace(true));
    }

    /// Moves the connections for calls to `target` without closing them. Subscribers stay where they are.
    pub(crate) async fn resplice_calls(&self, target: SocketAddr) -> Result<usize, Failure> {
        let calls = self.calls();
        for tunnel in &calls {
            tunnel.resplice(target, self.conditions.subscribe()).await.map_err(Failure::io("moving a tunnel"))?;
            self.counts.respliced.fetch_add(1, Ordering::Relaxed);
            tunnel.is_paused.send_replace(false);
        }
        Ok(calls.len())
    }

    fn calls(&self) -> Vec<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.iter().filter(|tunnel| tunnel.traffic() == Traffic::Calls).cloned().collect()
    }
}

/// The listening side of the proxy.
struct ProxyAcceptor {
    counts: Arc<Counts>,
    conditions: watch::Sender<NetworkConditions>,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
}

impl ProxyAcceptor {
    async fn accept(self, listener: TcpListener, mut random: Random) {
        let mut openings = JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            while openings.try_join_next().is_some() {}
            let conditions = *self.conditions.borrow();
            if conditions.is_cut {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.counts.connections.fetch_add(1, Ordering::Relaxed);
            let (tunnels, counts) = (Arc::clone(&self.tunnels), Arc::clone(&self.counts));
            openings.spawn(open(
                client,
                conditions.target,
                self.conditions.subscribe(),
                tunnels,
                counts,
                random.fork(),
            ));
        }
    }
}

async fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn open(
    client: TcpStream,
    target: SocketAddr,
    conditions: watch::Receiver<NetworkConditions>,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    counts: Arc<Counts>,
    mut random: Random,
) {
    let Ok(server) = connect(target).await else { return };
    let _ = client.set_nodelay(true);
    let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
    let tunnel = Arc::new(Tunnel {
        traffic: OnceLock::new(),
        up: Arc::new(AsyncMutex::new(server_write)),
        down: Arc::new(AsyncMutex::new(client_write)),
        tasks: Mutex::default(),
        is_paused: watch::channel(false).0,
    });
    tunnels.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tunnel));
    let mut tasks = JoinSet::new();
    let handle =
        tasks.spawn(go_down(server_read, Arc::clone(&tunnel), conditions.clone(), Arc::clone(&counts), random.fork()));
    tunnel.keep(handle);
    let handle = tasks.spawn(go_up(client_read, Arc::clone(&tunnel), conditions, counts, random));
    tunnel.keep(handle);
    // When one direction ends, the other one ends too, unless the tunnel was moved to another Redis.
    while let Some(ended) = tasks.join_next().await {
        if ended.is_ok() {
            break;
        }
    }
    tunnel.end();
    tunnels.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, &tunnel));
}

impl Tunnel {
    fn traffic(&self) -> Traffic {
        self.traffic.get().copied().unwrap_or(Traffic::Calls)
    }

    fn keep(&self, handle: AbortHandle) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
    }

    fn replace_down(&self, task: &AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.first_mut() {
            Some(down) => std::mem::replace(down, task.clone()).abort(),
            // The tunnel has ended in the meantime.
            None => task.abort(),
        }
    }

    fn end(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
        // The writing halves are shut down explicitly, because they live as long as the entry of this tunnel.
        for half in [Arc::clone(&self.up), Arc::clone(&self.down)] {
            tokio::spawn(async move { half.lock().await.shutdown().await });
        }
    }

    /// Replaces the connection to Redis by one to `target`. The proxy makes the connection setup itself.
    async fn resplice(
        self: &Arc<Self>,
        target: SocketAddr,
        conditions: watch::Receiver<NetworkConditions>,
    ) -> std::io::Result<()> {
        let server = connect(target).await?;
        let (mut read, mut write) = server.into_split();
        write.write_all(b"HELLO 3\r\nECHO resplice\r\n").await?;
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"resplice\r\n") {
            if read.read_buf(&mut greeting).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let tunnel = Arc::clone(self);
        let task = tokio::spawn(async move {
            go_down(read, Arc::clone(&tunnel), conditions, Arc::default(), Random::new(0)).await;
            tunnel.end();
        });
        self.replace_down(&task.abort_handle());
        *self.up.lock().await = write;
        Ok(())
    }
}

/// Copies from the gateway to Redis.
async fn go_up(
    mut from: OwnedReadHalf,
    tunnel: Arc<Tunnel>,
    mut conditions: watch::Receiver<NetworkConditions>,
    counts: Arc<Counts>,
    mut random: Random,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut paused = tunnel.is_paused.subscribe();
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if tunnel.traffic.get().is_none()
            && let Some(traffic) = Traffic::of(&chunk[..length])
        {
            tunnel.traffic.get_or_init(|| traffic);
        }
        delay(&mut conditions, &counts, &mut random).await;
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        if tunnel.up.lock().await.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Copies from Redis to the gateway.
async fn go_down(
    mut from: OwnedReadHalf,
    tunnel: Arc<Tunnel>,
    mut conditions: watch::Receiver<NetworkConditions>,
    counts: Arc<Counts>,
    mut random: Random,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let unread = conditions.borrow().unread;
        if unread == Some(tunnel.traffic()) {
            counts.held.fetch_add(1, Ordering::Relaxed);
            if conditions.wait_for(|conditions| conditions.unread != unread).await.is_err() {
                return;
            }
        }
        tokio::select! {
            read = from.read(&mut chunk) => {
                let Ok(length @ 1..) = read else {
                    counts.ended_by_redis.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                delay(&mut conditions, &counts, &mut random).await;
                if conditions.borrow().holds_replies {
                    counts.held.fetch_add(length as u64, Ordering::Relaxed);
                    if conditions.wait_for(|conditions| !conditions.holds_replies).await.is_err() {
                        return;
                    }
                }
                if tunnel.down.lock().await.write_all(&chunk[..length]).await.is_err() {
                    return;
                }
            }
            // Reads the network conditions again.
            changed = conditions.changed() => if changed.is_err() { return },
        }
    }
}

async fn delay(conditions: &mut watch::Receiver<NetworkConditions>, counts: &Counts, random: &mut Random) {
    let delay_max = conditions.borrow().delay_max;
    if !delay_max.is_zero() {
        counts.delayed.fetch_add(1, Ordering::Relaxed);
        sleep(random.between(Duration::ZERO, delay_max)).await;
    }
}
