//! The log of a real process: one line for each event, and nobody's data.

use std::time::Duration;

use keyspace::{Function, Keyspace};
use serde_json::json;
use test_support::{RedisServer, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use wire::Families;

use crate::client::{Client, DEADLINE};
use crate::process::Process;

async fn until(what: &str, process: &Process, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}: {}", process.log());
        sleep(Duration::from_millis(20)).await;
    }
}

fn warnings(process: &Process) -> Vec<String> {
    let log = process.log();
    log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).map(str::to_owned).collect()
}

fn token_of(user: &str) -> String {
    let channels = ["collection:*"];
    token::sign(&json!({
        "sub": user, "tenant": "acme", "exp": token::expiry(3_600), "subscribe": channels, "publish": channels,
    }))
}

/// An ordinary start has no warning. A frozen Redis is one, whatever depends on it.
#[tokio::test]
async fn one_outage_of_redis_is_one_warning() {
    let redis = RedisServer::start(&[]);
    let settings = [
        "redis.reply_deadline_ms=500",
        "redis.probe_interval_ms=200",
        "registry.heartbeat_interval_ms=200",
        "registry.lease_ms=1500",
        "registry.reap_ms=2000",
    ];
    let process = Process::start(&settings, Some(&redis.url()));
    until("it is connected", &process, || process.is("connected")).await;
    assert_eq!(warnings(&process), [""; 0], "{}", process.log());
    redis.freeze();
    until("it has lost its lease", &process, || process.log().contains("lease lost")).await;
    // Attempts fail one after the other, in different ways.
    until("breakers open", &process, || {
        process.number("tidegate_breaker_opens_total{calls=\"registry\"}") >= Some(1.0)
    })
    .await;
    until("attempts fail", &process, || process.log().contains("broker still unavailable")).await;
    redis.thaw();
    until("it is connected again", &process, || process.is("connected")).await;
    let warnings = warnings(&process);
    assert_eq!(warnings.len(), 1, "{}", process.log());
    assert!(warnings[0].contains("state=\"isolated\"") && warnings[0].contains("reason="), "{warnings:?}");
}

/// Each refused client is one line, up to a rate, and counted by its code.
#[tokio::test]
async fn refused_clients_are_logged_and_counted() {
    let process = Process::start(&["limits.connections_per_user=1"], None);
    until("it is connected", &process, || process.is("connected")).await;
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(process.listen).await.unwrap();
        addresses.push(stream.local_addr().unwrap());
        let mut client = Client::upgrade(stream, "/ws", Some("e30.e30.c2lnbmF0dXJl")).await;
        assert_eq!(client.expect("error").await["payload"]["code"], "unauthenticated");
        while client.next().await["type"] != "close" {}
    }
    let _first = Client::connect(process.listen, "/ws", Some(&token_of("alice"))).await;
    let mut second = Client::connect(process.listen, "/ws", Some(&token_of("alice"))).await;
    while second.next().await["type"] != "close" {}
    let lines = |needle: &str| -> Vec<String> {
        let log = process.log();
        let lines = log.lines().filter(|line| line.contains("client refused") && line.contains(needle));
        lines.map(str::to_owned).collect()
    };
    until("all are logged", &process, || lines("code=4500").len() == 3 && lines("code=4005").len() == 1).await;
    for (line, address) in lines("code=4500").iter().zip(addresses) {
        assert!(line.contains(" INFO ") && line.contains(&format!("address={address}")), "{line}");
        assert!(line.contains("reason=") && line.contains("session="), "{line}");
    }
    let line = &lines("code=4005")[0];
    assert!(line.contains("tenant=\"acme\"") && line.contains("user=\"alice\""), "{line}");
    assert_eq!(process.number("tidegate_errors_total{code=\"unauthenticated\"}"), Some(3.0));
    assert_eq!(process.number("tidegate_closes_total{code=\"4500\"}"), Some(3.0));
    assert_eq!(process.number("tidegate_closes_total{code=\"4005\"}"), Some(1.0));

    // An attack does not fill the disk.
    for _ in 0..100 {
        let mut client = Client::connect(process.listen, "/ws", Some("e30.e30.c2lnbmF0dXJl")).await;
        while client.next().await["type"] != "close" {}
    }
    assert_eq!(process.number("tidegate_closes_total{code=\"4500\"}"), Some(103.0));
    let count = lines("code=4500").len();
    assert!(count < 103, "{count} lines");
}

/// A message with a field that it may not have, stored without the check. The parser's error quotes it.
fn store_what_nobody_can_read(url: &str) {
    let scope = Families::default().parse_scope("acme/collection:7").unwrap();
    let keys = Keyspace::default();
    let mut publish = redis::cmd("FCALL");
    publish.arg(Function::RELAY.name).arg(2).arg(keys.stream(&scope)).arg(keys.meta(&scope));
    publish.arg("a").arg(r#"{"type":"t","payload":{},"marked-field":"marked-value"}"#);
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    publish.query::<String>(&mut connection).expect("it is taken");
}

/// Clients that are not let in: with the token in a wrong place, with a token that is wrong, and with everything that a
/// head of a request can have.
async fn strangers(process: &Process, token: &str) {
    let in_wrong_places = [
        json!({ "type": "hello", "payload": token }),
        json!({ "type": "hello", "payload": { "token": { "marked-field": token } } }),
    ];
    for frame in in_wrong_places {
        let mut stranger = Client::connect(process.listen, "/ws", None).await;
        stranger.send_text(&frame.to_string()).await;
        while !matches!(stranger.next().await["type"].as_str(), Some("close" | "error" | "welcome")) {}
    }
    let grants =
        json!({ "sub": "bob", "tenant": "acme", "exp": token::expiry(3_600), "subscribe": ["marked-grant:*"] });
    let broken = format!("{}marked", &token[..token.len() - 6]);
    for token in [token::sign(&grants), broken] {
        let mut refused = Client::connect(process.listen, "/ws", Some(&token)).await;
        while !matches!(refused.next().await["type"].as_str(), Some("close" | "welcome")) {}
    }
    let head = format!(
        "GET /ws?token={token}&x=marked-query HTTP/1.1\r\nHost: marked-host\r\n\
         Cookie: tidegate_token={token}; a=marked-cookie\r\nX-Marked: marked-header\r\nConnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(process.listen).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
}

/// Everything that people send bears a mark, and the log of everything has none of them.
#[tokio::test]
async fn the_log_has_nobodys_data_at_any_level() {
    let redis = RedisServer::start(&[]);
    redis.command::<()>(&["CONFIG", "SET", "requirepass", "marked-password"]);
    let url = format!("redis://default:marked-password@127.0.0.1:{}", redis.port());
    let process = Process::start(&["log.filter=trace"], Some(&url));
    until("it is connected", &process, || process.is("connected")).await;
    let token = token_of("alice");
    let mut client = Client::connect(process.listen, "/ws", None).await;
    client.send_text(&json!({ "type": "hello", "payload": { "token": token } }).to_string()).await;
    while client.next().await["type"] != "welcome" {}
    client.subscribe("collection:7:*", None).await;
    client.publish("collection:7:a", 7).await;
    let marked = json!({
        "type": "publish", "channel": "collection:7:a", "event": "marked-event", "payload": { "secret": "marked-payload" },
        "correlation_id": "marked-correlation",
    });
    client.send_text(&marked.to_string()).await;
    while client.next().await["type"] != "marked-event" {}
    client.send_text(r#"{"type":"marked-type","payload":"marked-payload"}"#).await;
    while client.next().await["type"] != "error" {}
    client.send_text("marked-garbage").await;
    while client.next().await["type"] != "error" {}
    store_what_nobody_can_read(&url);
    until("it is dropped", &process, || process.log().contains("message dropped")).await;
    strangers(&process, &token).await;
    // Redis refuses a call in its own words.
    redis.freeze();
    until("it is isolated", &process, || process.is("isolated")).await;
    redis.thaw();
    until("it is connected again", &process, || process.is("connected")).await;
    let log = process.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "everything is logged");
    let signature = token.rsplit('.').next().unwrap();
    for secret in ["marked-", &token[..40], signature] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
