//! Sockets that take what they can get: memory and places are bounded, and clients with tokens are served as before.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::raw::Raw;

const TEXT: u8 = 1;
const MIB: usize = 1 << 20;

/// The first bytes of a masked text frame of `claimed` bytes (RFC 6455 §5.2). With `fin` false, a fragment.
fn header(fin: bool, claimed: usize) -> Vec<u8> {
    let mut header = vec![u8::from(fin) << 7 | TEXT, 0x80 | 127];
    header.extend((claimed as u64).to_be_bytes());
    header.extend([0; 4]); // A mask of zeros leaves the payload as it is.
    header
}

/// A socket that has been upgraded, with or without a token.
async fn upgraded(fleet: &Fleet, token: Option<&str>) -> Raw {
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let header = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    Raw::open(socket, &header).await.expect("101")
}

/// The `error` before a close, and the code of the close.
async fn refused(raw: &mut Raw) -> (Value, u16) {
    let mut error = Value::Null;
    loop {
        let frame = raw.frame().await.expect("a close frame comes before the end");
        if let Some(code) = frame.close_code() {
            return (error, code);
        }
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
        if frame["type"] == "error" {
            error = frame["payload"].clone();
        }
    }
}

fn publish(bytes: usize) -> String {
    format!(r#"{{"type":"publish","channel":"system:news","payload":"{}"}}"#, "x".repeat(bytes))
}

/// Whether a client with a token is served at once.
async fn is_served(fleet: &Fleet, user: &str) {
    let mut client = fleet.client(0, user).await;
    client.subscribe("system:news", None).await;
    assert_eq!(client.publish("system:news", 1).await["type"], "ack");
}

async fn until(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < DEADLINE, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_a_token_nobody_may_send_more_than_a_hello() {
    let fleet = Fleet::start(1, None, "");
    for begun in [
        header(true, MIB),
        header(false, 65_536),
        [header(false, 2 * MIB), vec![b'x'; 100]].concat(),
        // In fragments of the smallest size.
        [vec![TEXT, 0x80 | 126, 0x40, 0, 0, 0, 0, 0], vec![b'x'; 16_384], vec![0, 0x81, 0, 0, 0, 0]].concat(),
    ] {
        let mut raw = upgraded(&fleet, None).await;
        raw.stream.write_all(&begun).await.unwrap();
        let (error, close) = refused(&mut raw).await;
        assert_eq!((error["code"].as_str(), close), (Some("too_big"), 1009), "{error}");
        assert!(error["message"].as_str().unwrap().contains("16384"), "{error}");
    }
    assert_eq!(fleet.metric(0, "tidegate_inbound_bytes").await, 0.0);
    // With a token in a hello of that size, what follows in the same packet is of the usual size.
    let token = fleet.token("acme", "alice", &["system:*"]);
    let mut hello = format!(r#"{{"type":"hello","payload":{{"token":"{token}"}}}}"#);
    hello.extend(std::iter::repeat_n(' ', 16_384 - hello.len()));
    let mut raw = upgraded(&fleet, None).await;
    let both = [
        test_support::web_socket::client_frame(1, hello.as_bytes()),
        test_support::web_socket::client_frame(1, publish(100_000).as_bytes()),
    ]
    .concat();
    raw.stream.write_all(&both).await.unwrap();
    let mut types = Vec::new();
    while types.last().is_none_or(|kind| kind != "ack") {
        let frame = raw.frame().await.expect("it stays open");
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap();
        types.push(frame["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types.first().map(String::as_str), Some("welcome"), "{types:?}");
}

#[tokio::test]
async fn a_message_ends_in_time_however_alive_its_client_is() {
    let fleet = Fleet::start(1, None, "[limits]\nmessage_timeout_ms = 1000\n");
    let token = fleet.token("acme", "alice", &["system:*"]);
    let fragment = || [vec![TEXT, 0x83, 0, 0, 0, 0], b"[1,".to_vec()].concat();
    for begun in
        [fragment(), header(true, 100_000), vec![0x81], [vec![0x89, 0x85, 0, 0, 0, 0], b"pi".to_vec()].concat()]
    {
        let mut raw = upgraded(&fleet, Some(&token)).await;
        raw.stream.write_all(&begun).await.unwrap();
        let began = Instant::now();
        let is_fragment = begun == fragment();
        let (mut from, mut to) = tokio::io::split(raw.stream);
        let pongs = tokio::spawn(async move {
            while is_fragment && to.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
            to
        });
        let mut bytes = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut from, &mut bytes);
        drop(tokio::time::timeout(DEADLINE, end).await.expect("the gateway ends it"));
        pongs.abort();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(r#""retry_after_ms":1000"#) && text.contains("message_timeout_ms"), "{text}");
        assert!(began.elapsed() >= Duration::from_millis(1_000), "{:?}", began.elapsed());
    }
    assert_eq!(fleet.metric(0, "tidegate_message_timeouts_total").await, 4.0);
    // A slow message that ends in time, and many messages of which each ends in time.
    let mut client = fleet.client(0, "bob").await;
    client.subscribe("system:news", None).await;
    let mut raw = upgraded(&fleet, Some(&token)).await;
    for _ in 0..4 {
        let frame = test_support::web_socket::client_frame(1, publish(10).as_bytes());
        let (first, last) = frame.split_at(frame.len() - 1);
        raw.stream.write_all(first).await.unwrap();
        sleep(Duration::from_millis(400)).await;
        raw.stream.write_all(last).await.unwrap();
    }
    for _ in 0..4 {
        client.expect("message").await;
    }
}

#[tokio::test]
async fn unfinished_messages_hold_no_more_than_their_budget() {
    // On each of two shards, half of it.
    let fleet = Fleet::start(1, None, "[limits]\ninbound_bytes_max = 4194304\n");
    let hostile = (0..40).map(|n| {
        let token = fleet.token("acme", &format!("mallory-{n}"), &[]);
        let fleet = &fleet;
        async move {
            let mut raw = upgraded(fleet, Some(&token)).await;
            raw.stream.write_all(&[header(true, MIB), vec![b'x'; MIB / 2]].concat()).await.ok();
            raw
        }
    });
    let hostile = join_all(hostile).await;
    let evictions = || fleet.metric(0, "tidegate_inbound_evictions_total");
    until(async || evictions().await >= 30.0, "most of them are closed").await;
    let held = fleet.metric(0, "tidegate_inbound_bytes").await;
    assert!(held <= 4_194_304.0, "{held}");
    // An honest message that comes in two parts is not among them.
    let mut client = fleet.client(0, "alice").await;
    let frame = test_support::web_socket::client_frame(1, publish(MIB / 2).as_bytes());
    let mut raw = upgraded(&fleet, Some(&fleet.token("acme", "bob", &["system:*"]))).await;
    client.subscribe("system:news", None).await;
    let (first, last) = frame.split_at(frame.len() / 2);
    raw.stream.write_all(first).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    raw.stream.write_all(last).await.unwrap();
    client.expect("message").await;
    drop(hostile);
    until(async || fleet.metric(0, "tidegate_inbound_bytes").await == 0.0, "all is given back").await;
}

#[tokio::test]
async fn sockets_that_never_say_hello_have_places_of_their_own() {
    let fleet = Fleet::start(1, None, "[limits]\nconnections_max = 100\n");
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(upgraded(&fleet, None).await);
    }
    let (error, close) = refused(&mut silent[0]).await;
    assert_eq!((error["code"].as_str(), close), (Some("unavailable"), 1013), "the oldest: {error}");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    assert!(fleet.metric(0, "tidegate_unauthenticated_connections").await <= 25.0);
    // With a token in the request, and with one in the first frame.
    let mut client = fleet.client(0, "alice").await;
    client.subscribe("system:news", None).await;
    let mut browser = Client::connect(fleet.gateway(0).listen_addr(), "/ws", None).await;
    let token = fleet.token("acme", "bob", &["system:*"]);
    browser.send_text(&format!(r#"{{"type":"hello","payload":{{"token":"{token}"}}}}"#)).await;
    browser.expect("welcome").await;
    assert_eq!(browser.publish("system:news", 1).await["type"], "ack");
    client.expect("n").await;
    // Places are given back by those who say hello, by those who leave, and by those who are refused.
    drop(silent);
    until(async || fleet.metric(0, "tidegate_unauthenticated_connections").await == 0.0, "no place is lost").await;
}

/// Refused at the upgrade, refused by their first frame, and closed by themselves: none answers, and none ends its socket.
#[tokio::test]
async fn sockets_that_ignore_their_refusal_do_not_fill_the_instance() {
    let fleet = Fleet::start(1, None, "[limits]\nconnections_max = 100\nconnections_per_address = 1000\n");
    let hello = test_support::web_socket::client_frame(1, br#"{"type":"hello","payload":{"token":"forged"}}"#);
    let goodbye = test_support::web_socket::client_frame(8, &1000_u16.to_be_bytes());
    let mut kept = Vec::new();
    for (n, (token, first)) in
        [(Some("forged"), None), (None, Some(&hello)), (None, Some(&goodbye))].into_iter().enumerate()
    {
        let began = Instant::now();
        for _ in 0..150 {
            let mut raw = upgraded(&fleet, token).await;
            if let Some(first) = first {
                raw.stream.write_all(first).await.unwrap();
            }
            kept.push(raw);
        }
        let told = kept.last_mut().expect("they are kept").frame().await.expect("it is told why");
        assert!(!told.payload.is_empty());
        let few = async || fleet.metric(0, "tidegate_connections").await <= 50.0;
        until(few, "the oldest are cut").await;
        assert!(began.elapsed() < Duration::from_secs(5), "before their time to answer is over: {:?}", began.elapsed());
        is_served(&fleet, &format!("alice-{n}")).await;
    }
}
