//! The time between two pings, as clients see it over real sockets.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;
use crate::fleet::Fleet;
use crate::raw::Raw;

const INTERVAL: Duration = Duration::from_secs(4);
/// Half of the interval, so that the gateway's timers are as coarse as they ever are.
const SETTINGS: &str = "[limits]\nping_interval_ms = 4000\npong_timeout_ms = 2000\nhello_timeout_ms = 60000\n";
const PINGS: usize = 4;

#[tokio::test]
async fn a_ping_comes_within_each_interval() {
    let fleet = Fleet::start(1, None, SETTINGS);
    let (websocket, event_stream) = tokio::join!(of_a_websocket(&fleet), of_an_event_stream(&fleet));
    for (transport, pings) in [("WebSocket", websocket), ("event stream", event_stream)] {
        let gaps: Vec<Duration> = pings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= INTERVAL), "{transport}: {gaps:?}");
        assert!(gaps[1..].iter().all(|gap| *gap >= INTERVAL / 2), "{transport}: {gaps:?}");
    }
}

/// When the connection began, and when each ping came. It answers them.
async fn of_a_websocket(fleet: &Fleet) -> Vec<Instant> {
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut client = Raw::open(socket, "").await.expect("it is taken");
    let mut pings = vec![Instant::now()];
    while pings.len() <= PINGS {
        let frame = client.frame().await.expect("the connection lives");
        if frame.opcode == 0x9 {
            pings.push(Instant::now());
            client.send(0xA, &frame.payload).await;
        }
    }
    pings
}

async fn of_an_event_stream(fleet: &Fleet) -> Vec<Instant> {
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut stream = dial::over(socket).await;
    let request =
        format!("GET /sse?channels=collection:1 HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut pings, mut line) = (vec![Instant::now()], Vec::new());
    while pings.len() <= PINGS {
        match timeout(DEADLINE, stream.read_u8()).await.expect("a ping in time").expect("the stream lives") {
            b'\n' => {
                if line.first() == Some(&b':') {
                    pings.push(Instant::now());
                }
                line.clear();
            }
            byte => line.push(byte),
        }
    }
    pings
}
