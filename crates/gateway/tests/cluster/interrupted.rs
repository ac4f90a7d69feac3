//! Event streams through something that holds them back, or cuts them amid an event: nothing is lost and nothing comes
//! twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::event_stream::EventStream;
use crate::fleet::Fleet;

const TARGET: &str = "/sse?channels=collection:42:*,system:news";
const MESSAGES: u64 = 60;
/// Nobody is asked to wait here, however often it comes back.
const SETTINGS: &str = "[limits]\nconnects_per_second = 0\nmessages_per_second = 100000\nmessages_burst = 100000\n";
/// A proxy that gathers passes on what it has when nothing has come for so long.
const IDLE: Duration = Duration::from_millis(20);

/// Between clients and a gateway.
struct Interrupter {
    address: SocketAddr,
    /// Connections that it has ended amid an event.
    cuts: Arc<AtomicUsize>,
}

impl Interrupter {
    /// Gathers so many bytes before it passes them on. Ends connection `n`, from 0, after `bytes(n)` of the gateway's.
    async fn start(gateway: SocketAddr, gathers: usize, bytes: fn(usize) -> usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cuts) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counter = Arc::clone(&cuts);
        tokio::spawn(async move {
            for n in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let gateway = TcpStream::connect(gateway).await.unwrap();
                tokio::spawn(pass(client, gateway, gathers, bytes(n), Arc::clone(&counter)));
            }
        });
        Self { address, cuts }
    }
}

async fn pass(client: TcpStream, gateway: TcpStream, gathers: usize, bytes: usize, cuts: Arc<AtomicUsize>) {
    let ((mut client_in, mut client_out), (mut gateway_in, mut gateway_out)) =
        (client.into_split(), gateway.into_split());
    let requests = tokio::spawn(async move { copy(&mut client_in, &mut gateway_out).await });
    let (mut gathered, mut left, mut last) = (Vec::new(), bytes, [0; 2]);
    while left > 0 {
        let mut chunk = [0; 512];
        let most = chunk.len().min(left);
        match timeout(IDLE, gateway_in.read(&mut chunk[..most])).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(n)) => {
                gathered.extend_from_slice(&chunk[..n]);
                left -= n;
                if gathered.len() < gathers && left > 0 {
                    continue;
                }
            }
            Err(_) => {}
        }
        if let [.., a, b] = gathered[..] {
            last = [a, b];
        }
        if client_out.write_all(&gathered).await.is_err() {
            break;
        }
        gathered.clear();
    }
    cuts.fetch_add(usize::from(left == 0 && last != *b"\n\n"), Ordering::Relaxed);
    // Both directions end, as they do when a proxy is stopped.
    requests.abort();
}

fn token(fleet: &Fleet) -> String {
    fleet.token("acme", "alice", &["collection:*", "system:*"])
}

/// Connects, and comes back until it has so many messages. Gives their payloads.
async fn receive(address: SocketAddr, token: &str, mut id: Option<String>, count: u64) -> Vec<u64> {
    let mut received = Vec::new();
    while (received.len() as u64) < count {
        let mut stream =
            EventStream::request(TcpStream::connect(address).await.unwrap(), TARGET, token, id.as_deref()).await;
        while (received.len() as u64) < count {
            let frame = stream.next().await;
            match frame["type"].as_str().unwrap() {
                "n" => received.push(frame["payload"].as_u64().unwrap()),
                "close" => break,
                "gap" | "error" | "bye" => panic!("{frame}"),
                _ => {}
            }
        }
        id.clone_from(&stream.last_id);
    }
    received
}

/// The last id of a client that is subscribed to both channels and has received nothing.
async fn first_id(fleet: &Fleet) -> String {
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut stream = EventStream::request(socket, TARGET, &token(fleet), None).await;
    for kind in ["welcome", "subscribed", "subscribed"] {
        assert_eq!(stream.next().await["type"], kind);
    }
    stream.last_id.expect("it is subscribed")
}

async fn publish(fleet: &Fleet) {
    let mut publisher = fleet.client(0, "worker").await;
    for n in 0..MESSAGES {
        let channel = ["collection:42:ops", "system:news"][n as usize % 2];
        assert_eq!(publisher.publish(channel, n).await["type"], "ack");
    }
}

/// Each channel's messages in order, none missing, none twice.
fn check(received: &[u64]) {
    for rest in 0..2 {
        let own: Vec<u64> = received.iter().copied().filter(|n| n % 2 == rest).collect();
        assert!(own.iter().copied().eq((0..MESSAGES).filter(|n| n % 2 == rest)), "{own:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_gathers_bytes_delays_events_and_changes_nothing() {
    for gathers in [3, 1_000, 100_000] {
        let fleet = Fleet::start(1, None, SETTINGS);
        let proxy = Interrupter::start(fleet.gateway(0).listen_addr(), gathers, |_| usize::MAX).await;
        let id = first_id(&fleet).await;
        let receiving = tokio::spawn(receive(proxy.address, token(&fleet).leak(), Some(id), MESSAGES));
        publish(&fleet).await;
        check(&receiving.await.unwrap());
    }
}

#[tokio::test]
async fn a_proxy_that_cuts_streams_amid_events_loses_nothing() {
    let fleet = Fleet::start(1, None, SETTINGS);
    let id = first_id(&fleet).await;
    publish(&fleet).await;
    // Whatever it is, it comes to every place of an event in time; each connection gets a little further.
    let proxy = Interrupter::start(fleet.gateway(0).listen_addr(), 1, |n| 1_000 + n * 37 % 1_009).await;
    check(&receive(proxy.address, &token(&fleet), Some(id), MESSAGES).await);
    assert!(
        proxy.cuts.load(Ordering::Relaxed) > 10,
        "{} streams were cut amid an event",
        proxy.cuts.load(Ordering::Relaxed)
    );
}

/// The `subscribed` of a position that is not honoured and the `gap` that follows it are two events.
#[tokio::test]
async fn a_gap_is_announced_to_a_client_whose_stream_is_cut_anywhere_before_it() {
    let fleet = Fleet::start(1, None, SETTINGS);
    let id = first_id(&fleet).await;
    let (before, position) = id.rsplit_once('/').unwrap();
    // Nobody was ever told of this position.
    let unknown = format!("{before}/1-{}", position.len());
    let gateway = fleet.gateway(0).listen_addr();
    let proxy = Interrupter::start(gateway, 1, |n| n * 11).await;
    let (mut cut_before, mut cut_after) = (0, 0);
    for _ in 0..200 {
        let mut gaps = 0;
        let socket = TcpStream::connect(proxy.address).await.unwrap();
        let mut stream = EventStream::request(socket, TARGET, &token(&fleet), Some(&unknown)).await;
        let is_gap = |frame: &Value| usize::from(frame["type"] == "gap");
        loop {
            let frame = stream.next().await;
            gaps += is_gap(&frame);
            if frame["type"] == "close" || gaps > 0 {
                break;
            }
        }
        *(if gaps == 0 { &mut cut_before } else { &mut cut_after }) += 1;
        let socket = TcpStream::connect(gateway).await.unwrap();
        let mut stream = EventStream::request(socket, TARGET, &token(&fleet), stream.last_id.as_deref()).await;
        let mut confirmed = 0;
        while confirmed < 2 || gaps == 0 {
            let frame = stream.next().await;
            confirmed += usize::from(frame["type"] == "subscribed");
            gaps += is_gap(&frame);
        }
        assert_eq!(gaps, 1, "after {cut_before} cuts before the gap, {cut_after} after it");
    }
    assert!(cut_before > 50 && cut_after > 10, "{cut_before} {cut_after}");
}
