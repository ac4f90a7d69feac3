//! Sockets to Redis send at once and notice a vanished peer, and nobody waits for one that is silent.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use keyspace::{Library, Slot};
use redis::{AsyncConnectionConfig, cmd};
use redis_topology::{
    CallError, CommandClient, DEAD_PEER, LibraryLoader, Loading, LocateError, Pools, SentinelError, Target, open,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Long enough for a busy machine, and far below what the kernel's own defaults would take.
const SOON: Duration = Duration::from_secs(20);

/// Takes connections and answers nothing; tells each one's address on our side.
struct SilentServer {
    address: SocketAddr,
    accepted: tokio::sync::mpsc::UnboundedReceiver<SocketAddr>,
    _task: JoinHandle<()>,
}

impl SilentServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, accepted) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut kept: Vec<TcpStream> = Vec::new();
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                kept.push(stream);
                let _ = tell.send(peer);
            }
        });
        Self { address, accepted, _task: task }
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Our side of the next connection.
    async fn next_socket(&mut self) -> Socket {
        own_socket(timeout(SOON, self.accepted.recv()).await.unwrap().unwrap())
    }
}

/// The socket of this process that has this address. The Redis client does not give its sockets out.
fn own_socket(local: SocketAddr) -> Socket {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<i32>().ok());
    let descriptors = numbers.filter_map(|fd| pidfd_getfd(&own, fd, PidfdGetfdFlags::empty()).ok());
    let is_it = |socket: &OwnedFd| SockRef::from(socket).local_addr().is_ok_and(|at| at.as_socket() == Some(local));
    descriptors.into_iter().find(is_it).map(Socket::from).expect("it is open")
}

fn assert_options(socket: &Socket, what: &str) {
    assert!(socket.tcp_nodelay().unwrap(), "{what}: TCP_NODELAY");
    assert!(socket.keepalive().unwrap(), "{what}: SO_KEEPALIVE");
    let (idle, interval, count) = (
        socket.tcp_keepalive_time().unwrap(),
        socket.tcp_keepalive_interval().unwrap(),
        socket.tcp_keepalive_retries().unwrap(),
    );
    assert_eq!(idle + interval * count, DEAD_PEER, "{what}: an idle connection to a vanished peer ends");
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEAD_PEER), "{what}: one that is being written to ends");
}

fn client(url: &str, deadline: Duration) -> CommandClient {
    let library = LibraryLoader::new(Library::new([]), Loading::FillGap);
    CommandClient::new(Pools::new(Target::parse(url).unwrap(), 1, deadline), library, deadline)
}

#[tokio::test]
async fn every_kind_of_connection_has_the_options() {
    let mut server = SilentServer::start().await;

    let info = Target::parse(&server.url("redis", "")).unwrap();
    let redis_topology::Topology::Standalone(node) = info.topology() else { panic!("it is one server") };
    let stream = info.connect(node, server.address).await.unwrap();
    assert_options(&server.next_socket().await, "pub/sub and the broker's commands");
    drop(stream);

    let opened = open(info.info(node), &AsyncConnectionConfig::new()).await.unwrap();
    assert_options(&server.next_socket().await, "a connection of the Redis client");
    drop(opened);

    let pool = client(&server.url("redis", ""), SOON);
    let call = tokio::spawn(async move { pool.ask::<String>(Slot::of("a"), &cmd("PING")).await });
    assert_options(&server.next_socket().await, "a pool");
    call.abort();

    for (scheme, path, what) in
        [("redis+sentinel", "/main", "a question to a Sentinel"), ("redis+cluster", "", "a map")]
    {
        let target = Target::parse(&server.url(scheme, path)).unwrap();
        let question = tokio::spawn(async move { target.find().await.map(drop) });
        assert_options(&server.next_socket().await, what);
        question.abort();
    }
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_answers_nothing() {
    let server = SilentServer::start().await;
    let begun = Instant::now();
    let deadline = Duration::from_millis(300);
    let answer = client(&server.url("redis", ""), deadline).ask::<String>(Slot::of("a"), &cmd("PING")).await;
    assert_eq!(answer, Err(CallError::NoAnswer(deadline)));

    let sentinel = Target::parse(&server.url("redis+sentinel", "/main")).unwrap();
    assert!(matches!(sentinel.find().await, Err(LocateError::Sentinel(SentinelError::Silent(_)))));
    let cluster = Target::parse(&server.url("redis+cluster", "")).unwrap();
    assert!(matches!(cluster.find().await, Err(LocateError::Cluster(_))));
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
}
