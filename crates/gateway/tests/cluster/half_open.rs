//! A client that is gone without a word, as when its phone loses the network: no byte, no FIN, no RST.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::cli::listed;
use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::receiver::{Kept, Transport};
use test_support::RedisServer;

const INTERVAL_MS: u64 = 5_000;
const PONG_MS: u64 = 4_000;
/// `CLOSE_TIMEOUT` of the gateway: a WebSocket has so long to answer the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later a busy machine may see it: timers turn once a second, and rows follow sockets.
const LATE: Duration = Duration::from_secs(4);

/// Between clients and a gateway. Once it swallows, both sides keep their sockets, and what they say is read and lost.
struct SilentPeer {
    address: std::net::SocketAddr,
    swallows: watch::Sender<bool>,
    swallowed: Arc<Notify>,
}

impl SilentPeer {
    async fn start(gateway: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, swallowed) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let (swallows, is_swallowing) = watch::channel(false);
        let lost = Arc::clone(&swallowed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (client_in, client_out) = client.into_split();
                let (gateway_in, gateway_out) = TcpStream::connect(gateway).await.unwrap().into_split();
                tokio::spawn(pass(client_in, gateway_out, is_swallowing.clone(), Arc::clone(&lost)));
                tokio::spawn(pass(gateway_in, client_out, is_swallowing.clone(), Arc::clone(&lost)));
            }
        });
        Self { address, swallows, swallowed }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, swallows: watch::Receiver<bool>, lost: Arc<Notify>) {
    let mut chunk = [0; 4096];
    loop {
        let n = from.read(&mut chunk).await.unwrap_or(0);
        if *swallows.borrow() {
            lost.notify_one();
            if n == 0 {
                // The other side is not told of the end either.
                std::future::pending::<()>().await;
            }
        } else if n == 0 || to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
}

async fn connect(fleet: &Fleet, address: std::net::SocketAddr, user: &str) -> Client {
    let token = fleet.token("acme", user, &["collection:*"]);
    let mut client = Client::connect(address, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("collection:42:ops", None).await;
    client
}

#[tokio::test]
async fn who_is_gone_without_a_word_is_found_by_ping_and_its_row_goes() {
    let redis = RedisServer::start(&[]);
    let limits = format!("[limits]\nping_interval_ms = {INTERVAL_MS}\npong_timeout_ms = {PONG_MS}\n");
    let fleet = Fleet::start(1, Some(&redis.url()), &limits);
    let gateway = fleet.gateway(0).listen_addr();
    let hole = SilentPeer::start(gateway).await;
    let mut gone = connect(&fleet, hole.address, "gone").await;
    let mut there = connect(&fleet, gateway, "there").await;
    for user in ["gone", "there"] {
        listed(&redis, user, 1).await;
    }
    // It reads, and so answers pings; it says nothing of its own.
    let reading = tokio::spawn(async move {
        loop {
            there.next().await;
        }
    });
    hole.swallows.send_replace(true);
    let begun = Instant::now();
    gone.send_text(r#"{"type":"ping"}"#).await;
    tokio::time::timeout(DEADLINE, hole.swallowed.notified()).await.expect("what it says is lost");
    listed(&redis, "gone", 0).await;
    assert!(begun.elapsed() >= Duration::from_millis(PONG_MS), "it was given its time");
    assert_eq!(fleet.metric(0, "tidegate_connections").await, 1.0);
    // Whoever answers stays.
    let answered = async || fleet.metric(0, "tidegate_client_rtt_seconds_count").await;
    let (before, until) = (answered().await, Instant::now() + DEADLINE);
    while answered().await < before + 2.0 {
        assert!(Instant::now() < until, "pings are answered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    listed(&redis, "there", 1).await;
    assert!(!reading.is_finished());
    reading.abort();
}

#[cfg(target_os = "linux")]
over_both_transports!(whose_packets_are_all_lost_is_found_in_the_same_time_and_its_row_goes);

/// Every packet that comes for this socket is dropped before TCP reads it: nothing is acknowledged.
#[cfg(target_os = "linux")]
fn drop_packets(socket: &socket2::Socket) {
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K: keeps so many bytes of a packet
    socket.attach_filter(&[socket2::SockFilter::new(RETURN, 0, 0, 0)]).expect("the kernel takes filters");
}

#[cfg(target_os = "linux")]
async fn whose_packets_are_all_lost_is_found_in_the_same_time_and_its_row_goes(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let limits = format!("[limits]\nping_interval_ms = {INTERVAL_MS}\npong_timeout_ms = {PONG_MS}\n");
    let fleet = Fleet::start(1, Some(&redis.url()), &limits);
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let its_socket = socket2::SockRef::from(&socket).try_clone().unwrap();
    let kept = Kept::nothing(transport, &fleet.token("acme", "gone", &["collection:*"]), &["collection:42:ops"]);
    let mut gone = kept.connect_over(socket).await;
    gone.until_subscribed().await;
    let kept = Kept::nothing(transport, &fleet.token("acme", "there", &["collection:*"]), &["collection:42:ops"]);
    let mut there = kept.connect(fleet.gateway(0).listen_addr()).await;
    for user in ["gone", "there"] {
        listed(&redis, user, 1).await;
    }
    let reading = tokio::spawn(async move {
        loop {
            there.next().await;
        }
    });
    drop_packets(&its_socket);
    let begun = Instant::now();
    listed(&redis, "gone", 0).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(PONG_MS), "it was given its time: {took:?}");
    assert!(took <= Duration::from_millis(INTERVAL_MS + PONG_MS) + CLOSE_TIMEOUT + LATE, "{took:?}");
    assert_eq!(fleet.metric(0, "tidegate_connections").await, 1.0);
    // Two more pings find who is there still there.
    tokio::time::sleep(Duration::from_millis(2 * INTERVAL_MS)).await;
    listed(&redis, "there", 1).await;
    assert!(!reading.is_finished());
    reading.abort();
}
