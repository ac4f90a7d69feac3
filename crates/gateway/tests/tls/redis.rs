//! TLS to Redis: every connection to each kind of deployment, and servers and clients that are not trusted.

use std::net::SocketAddr;
use std::time::Duration;

use test_support::process::tidegate;
use test_support::{RedisCluster, RedisServer, TlsPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::DEADLINE;
use crate::fleet::{Fleet, config};

/// Shown by who trusts the server's authority and has a certificate of its own.
const FILES: [(&str, &str); 3] =
    [("ca_file", "redis_ca"), ("cert_file", "redis_client"), ("key_file", "redis_client_key")];

fn broker(url: &str, files: &[(&str, &str)]) -> String {
    let files: String = files.iter().map(|(key, name)| format!(", {key} = '{}'", TlsPort::file(name))).collect();
    format!("broker = \"redis\"\nredis = {{ url = \"{url}\"{files} }}\n")
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// What one gateway takes from a client, another delivers, in records of many kinds.
async fn messages_travel(url: &str, files: &[(&str, &str)]) {
    let fleet = Fleet::on(broker(url, files), 2, "[limits]\nmessage_bytes_max = 1048576\n");
    let mut reader = fleet.client(0, "reader").await;
    // Many subscriptions at once are more than one record.
    for number in 0..200 {
        reader.subscribe(&format!("collection:{number}:*"), None).await;
    }
    let mut writer = fleet.client(1, "writer").await;
    for length in [1, 100_000, 600_000, 10] {
        let payload = "x".repeat(length);
        let frame = format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"m","payload":"{payload}"}}"#);
        writer.send_text(&frame).await;
        let ack = writer.expect("ack").await;
        assert_eq!(ack["payload"]["level"], "durable", "{ack}");
        let message = reader.expect("m").await;
        assert_eq!(message["payload"].as_str().map(str::len), Some(length));
    }
}

#[tokio::test]
async fn one_server_that_asks_for_certificates() {
    let port = TlsPort::reserve();
    let redis = RedisServer::start(&words(&port.arguments(true)));
    let url = format!("rediss://localhost:{}", port.number());
    messages_travel(&url, &FILES).await;
    // The commands of the CLI use the same files.
    let mut publish = tidegate(env!("CARGO_BIN_EXE_tidegate"));
    publish.args(["publish", "--tenant", "acme", "collection:42:ops", "1"]).env("TIDEGATE_REDIS_URL", &url);
    for (key, name) in FILES {
        publish.env(format!("TIDEGATE_REDIS_{}", key.to_uppercase()), TlsPort::file(name));
    }
    let published = publish.output().unwrap();
    assert!(published.status.success(), "{published:?}");
    drop(redis);
}

#[tokio::test]
async fn a_cluster() {
    let port = TlsPort::reserve();
    let arguments = [port.arguments(false), vec!["--tls-cluster".to_owned(), "yes".to_owned()]].concat();
    let _cluster = RedisCluster::start_alone(&words(&arguments));
    messages_travel(&format!("valkeys+cluster://127.0.0.1:{}", port.number()), &FILES[..1]).await;
}

#[tokio::test]
async fn a_primary_behind_a_sentinel() {
    let [port, sentinel_port] = [TlsPort::reserve(), TlsPort::reserve()];
    let _redis = RedisServer::start(&words(&port.arguments(false)));
    let config = format!("sentinel monitor main 127.0.0.1 {} 1\n", port.number());
    let arguments = [sentinel_port.arguments(true), vec!["--tls-replication".to_owned(), "yes".to_owned()]].concat();
    let _sentinel = RedisServer::start_sentinel(config, &words(&arguments));
    messages_travel(&format!("rediss+sentinel://localhost:{}/main", sentinel_port.number()), &FILES).await;
}

/// Asks the admin port until the instance says why it is not ready.
async fn reason(admin: SocketAddr) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        if answer.contains("reason") {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_is_trusted_without_the_right_certificate() {
    let [port, stranger] = [TlsPort::reserve(), TlsPort::reserve()];
    let redis = RedisServer::start(&words(&port.arguments(true)));
    // A certificate of the right authority, for another name.
    let mut arguments = stranger.arguments(false);
    arguments[3] = TlsPort::file("redis_client");
    arguments[5] = TlsPort::file("redis_client_key");
    let _other = RedisServer::start(&words(&arguments));
    let cases = [
        (format!("rediss://localhost:{}", port.number()), &[("ca_file", "other_ca")][..], "certificate"),
        (format!("rediss://localhost:{}", port.number()), &FILES[..1], ""),
        (format!("rediss://127.0.0.1:{}", stranger.number()), &FILES[..1], "certificate"),
        // A port without TLS, and one with TLS that is taken for one without.
        (format!("rediss://127.0.0.1:{}", redis.port()), &FILES[..1], ""),
        (format!("redis://127.0.0.1:{}", port.number()), &[][..], ""),
    ];
    for (url, files, says) in cases {
        let fleet = Fleet::on(broker(&url, files), 1, "");
        let reason = reason(fleet.gateway(0).admin_addr()).await;
        assert!(reason.contains("connecting") && reason.contains(says), "{url} {files:?}: {reason}");
    }
}

/// The gateway trusts another authority, until its file is replaced. Who is connected is not disconnected by it.
#[tokio::test]
async fn replaced_certificates_are_used_from_then_on() {
    let port = TlsPort::reserve();
    let redis = RedisServer::start(&words(&port.arguments(true)));
    let url = format!("rediss://localhost:{}", port.number());
    let fleet = Fleet::on(broker(&url, &[("ca_file", "other_ca")]), 1, "");
    assert!(reason(fleet.gateway(0).admin_addr()).await.contains("certificate"));
    let reload = |files: &[(&str, &str)]| fleet.gateway(0).reload(&config("gw-0", &broker(&url, files), "")).unwrap();
    reload(&FILES);
    // From its subscription on it has reached Redis.
    let mut client = fleet.client(0, "alice").await;
    assert_eq!(client.publish("collection:7", 1).await["payload"]["level"], "durable");
    let deadline = Instant::now() + DEADLINE;
    while fleet.metric(0, "tidegate_lease_held").await != 1.0 {
        assert!(Instant::now() < deadline, "the registry has pools of its own");
        sleep(Duration::from_millis(20)).await;
    }
    reload(&[("ca_file", "other_ca")]);
    assert_eq!(client.publish("collection:7", 2).await["payload"]["level"], "durable");
    drop(redis);
}
