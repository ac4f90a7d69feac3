//! How connections end: with a close frame whoever the client is and however early it is, and in no time that is not
//! the client's own.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;
use crate::fleet::Fleet;

/// `CLOSE_TIMEOUT` of the gateway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later a client is cut: the wheel turns once a second, and a busy machine is late.
const LATE: Duration = Duration::from_secs(10);

/// A WebSocket by the byte, which answers nothing by itself.
struct Raw {
    stream: dial::Stream,
}

/// A server's frame.
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

impl Frame {
    fn close_code(&self) -> Option<u16> {
        (self.opcode == 0x8).then(|| u16::from_be_bytes([self.payload[0], self.payload[1]]))
    }
}

impl Raw {
    /// Asks for an upgrade; nothing if it is not answered 101.
    async fn open(socket: TcpStream, authorization: &str) -> Option<Self> {
        Self::ask(dial::over(socket).await, authorization).await
    }

    async fn ask(mut stream: dial::Stream, authorization: &str) -> Option<Self> {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer or an end").ok()?);
        }
        head.starts_with(b"HTTP/1.1 101 ").then_some(Self { stream })
    }

    async fn send_text(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode, 0x80 | 126];
        frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
        if payload.len() < 126 {
            frame.truncate(1);
            frame.push(0x80 | payload.len() as u8);
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await.expect("the gateway reads");
    }

    /// The next frame, or nothing when the gateway has ended its direction.
    async fn frame(&mut self) -> Option<Frame> {
        timeout(DEADLINE, self.read_frame()).await.expect("a frame or an end in time")
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).await.ok()?;
        let len = match header[1] {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => usize::try_from(self.stream.read_u64().await.ok()?).ok()?,
            short => usize::from(short),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { opcode: header[0] & 0xf, payload })
    }

    /// Reads on to the close frame.
    async fn close(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("a close frame comes before the end");
            if let Some(code) = frame.close_code() {
                return code;
            }
        }
    }

    /// How long until the gateway ends its direction, with nothing more before it.
    async fn end(&mut self) -> Duration {
        let began = Instant::now();
        assert!(self.frame().await.is_none(), "nothing follows a close");
        began.elapsed()
    }
}

fn bearer(fleet: &Fleet, user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", fleet.token("acme", user, &["collection:*"]))
}

/// Ways in which the gateway closes, and what a client does for it.
const WAYS: [(&str, u16); 6] = [
    ("refused", 4500),
    ("no hello", 4003),
    ("replaced", 4504),
    ("too big", 1009),
    ("not UTF-8", 1007),
    ("drained", 1012),
];

/// A client that is about to be closed in this way; the drain is the caller's to begin.
async fn closing(fleet: &Fleet, way: &str) -> (Raw, Option<Raw>) {
    let address = fleet.gateway(0).listen_addr();
    let connect = async |authorization: &str| {
        Raw::open(TcpStream::connect(address).await.unwrap(), authorization).await.expect("101")
    };
    let mut beside = None;
    let client = match way {
        "refused" => connect("Authorization: Bearer nonsense\r\n").await,
        "no hello" => connect("").await,
        "replaced" => {
            let mut client = connect("").await;
            let token = fleet.token("acme", "alice", &["collection:*"]);
            let hello = json!({ "type": "hello", "payload": { "token": token } });
            client.send_text(1, hello.to_string().as_bytes()).await;
            let welcome = client.frame().await.expect("a welcome");
            let welcome: serde_json::Value = serde_json::from_slice(&welcome.payload).unwrap();
            let session = &welcome["payload"]["session_id"];
            let mut again = connect("").await;
            let hello = json!({ "type": "hello", "payload": { "token": token, "session_id": session } });
            again.send_text(1, hello.to_string().as_bytes()).await;
            beside = Some(again);
            client
        }
        "too big" => {
            let mut client = connect(&bearer(fleet, "bob")).await;
            client.stream.write_all(&[&b"\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0"[..], &[7; 1000]].concat()).await.unwrap();
            client
        }
        "not UTF-8" => {
            let mut client = connect(&bearer(fleet, "carol")).await;
            client.send_text(1, b"\xff and more").await;
            client
        }
        _ => connect(&bearer(fleet, "dave")).await,
    };
    (client, beside)
}

/// RFC 6455 §7.1.1: the server ends the connection when both close frames have been exchanged, and not before: what stands
/// in front, and TLS, would throw the client's away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_keeps_its_direction_until_the_close_is_answered_and_no_longer() {
    let mut fleet = Fleet::start(1, None, "[limits]\nhello_timeout_ms = 1000\n");
    let mut clients = JoinSet::new();
    let (closed, mut first) = mpsc::unbounded_channel();
    for (way, code) in WAYS {
        let (client, beside) = closing(&fleet, way).await;
        let (other, other_beside) = closing(&fleet, way).await;
        for (answers, (mut client, beside)) in [(true, (client, beside)), (false, (other, other_beside))] {
            let closed = closed.clone();
            clients.spawn(async move {
                assert_eq!(client.close().await, code, "{way}");
                // Nobody listens any more once the drain has begun.
                let _ = closed.send(());
                if answers && way == "too big" {
                    client.stream.write_all(&vec![7; (2 << 20) - 1000]).await.expect("the rest of it is read");
                }
                if answers {
                    client.send_text(8, &code.to_be_bytes()).await;
                }
                let ended = client.end().await;
                drop(beside);
                (way, answers, ended)
            });
        }
    }
    for _ in 0..2 * (WAYS.len() - 1) {
        timeout(DEADLINE, first.recv()).await.expect("all but those who wait for the drain are closed in time");
    }
    let draining = fleet.gateways[0].take().unwrap();
    let draining = tokio::spawn(async move { draining.drain().await });
    while let Some(ended) = clients.join_next().await {
        let (way, answers, ended) = ended.unwrap();
        match answers {
            true => assert!(ended < CLOSE_TIMEOUT / 2, "{way}: ended {ended:?} after the answer"),
            false => {
                assert!(ended > CLOSE_TIMEOUT * 4 / 5 && ended < CLOSE_TIMEOUT + LATE, "{way}: cut after {ended:?}")
            }
        }
    }
    draining.await.unwrap();
}

/// Behind a header that is wrong nobody knows where the client's close frame would begin.
#[tokio::test]
async fn who_sends_no_frames_is_not_waited_for() {
    let fleet = Fleet::start(1, None, "");
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut client = Raw::open(socket, &bearer(&fleet, "alice")).await.expect("101");
    client.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(client.close().await, 1002);
    let ended = client.end().await;
    assert!(ended < CLOSE_TIMEOUT / 2, "{ended:?}");
}

/// A client that goes instead of answering is gone at once.
#[tokio::test]
async fn who_leaves_without_an_answer_is_let_go_of_at_once() {
    let fleet = Fleet::start(1, None, "");
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut client = Raw::open(socket, "Authorization: Bearer nonsense\r\n").await.expect("101");
    assert_eq!(client.close().await, 4500);
    assert_eq!(fleet.metric(0, "tidegate_connections").await, 1.0, "it has its time");
    client.stream.shutdown().await.unwrap();
    let ended = client.end().await;
    assert!(ended < CLOSE_TIMEOUT / 2, "{ended:?}");
    while fleet.metric(0, "tidegate_connections").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Clients are between hyper, TLS and a shard's mailbox when an instance that has none is asked to leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_answered_101_while_an_instance_leaves_gets_a_close_frame() {
    const ROUNDS: usize = 20;
    const CLIENTS: usize = 40;
    let mut met = 0;
    for round in 0..ROUNDS {
        let mut fleet = Fleet::start(1, None, "[drain]\nwindow_ms = 0\n");
        let authorization = bearer(&fleet, "alice");
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
            streams.push(dial::over(socket).await);
        }
        let (answered, mut first) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for stream in streams {
            let (authorization, answered) = (authorization.clone(), answered.clone());
            clients.spawn(async move {
                let mut client = Raw::ask(stream, &authorization).await?;
                // Only the first is waited for.
                let _ = answered.send(());
                let code = client.close().await;
                client.send_text(8, &code.to_be_bytes()).await;
                Some(code)
            });
        }
        first.recv().await.expect("an instance that runs takes clients in");
        fleet.gateways[0].take().unwrap().drain().await;
        while let Some(ended) = clients.join_next().await {
            if let Some(code) = ended.unwrap_or_else(|error| panic!("round {round}: {error}")) {
                assert_eq!(code, 1012);
                met += 1;
            }
        }
    }
    assert!(met > ROUNDS, "{met} clients were answered 101");
}
