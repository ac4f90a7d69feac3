//! How connections end: with a close frame whoever the client is and however early it is, and in no time that is not
//! the client's own.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;
use crate::fleet::Fleet;
use crate::raw::Raw;

/// `CLOSE_TIMEOUT` of the gateway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later a client is cut: the wheel turns once a second, and a busy machine is late.
const LATE: Duration = Duration::from_secs(10);

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
            client.send(1, hello.to_string().as_bytes()).await;
            let welcome = client.frame().await.expect("a welcome");
            let welcome: serde_json::Value = serde_json::from_slice(&welcome.payload).unwrap();
            let session = &welcome["payload"]["session_id"];
            let mut again = connect("").await;
            let hello = json!({ "type": "hello", "payload": { "token": token, "session_id": session } });
            again.send(1, hello.to_string().as_bytes()).await;
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
            client.send(1, b"\xff and more").await;
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
                    client.send(8, &code.to_be_bytes()).await;
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
                client.send(8, &code.to_be_bytes()).await;
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
