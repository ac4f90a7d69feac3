//! The administration port, asked by the byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;
use crate::health::{FROZEN_AFTER, Phase};
use crate::metrics::Sources;

async fn say(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn with_admin(health: Health, test: impl AsyncFnOnce(std::net::SocketAddr, &Health)) {
    let health = Arc::new(health);
    let sources =
        Sources { shards: vec![Arc::default()], pump: Arc::default(), edge: Arc::default(), health: health.clone() };
    let admin = Admin::new(Exposition::new(sources), health.clone());
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let task = tokio::task::spawn_local(admin.run(listener));
            test(address, &health).await;
            task.abort();
        })
        .await;
}

#[tokio::test]
async fn metrics_and_probes() {
    with_admin(Health::new(1, Instant::now()), async |address, health| {
        let scraped = say(address, "GET /metrics").await;
        assert!(scraped.starts_with("HTTP/1.1 200 "), "{scraped}");
        assert!(scraped.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{scraped}");
        assert!(scraped.contains("\ntidegate_connections{shard=\"0\"} 0\n"), "{scraped}");
        assert!(scraped.contains("\ntidegate_delivery_latency_seconds_count 0\n"), "{scraped}");
        assert!(say(address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 503 "), "starting");
        health.advance(Phase::Running);
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 200 "), "isolated is ready");
        health.advance(Phase::Draining);
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 503 "));
        assert!(say(address, "GET /ws").await.starts_with("HTTP/1.1 404 "));
        assert!(say(address, "DELETE /metrics").await.starts_with("HTTP/1.1 405 "));
    })
    .await;
}

#[tokio::test]
async fn a_stuck_shard_silences_the_probes_and_not_the_numbers() {
    let long_ago = Instant::now().checked_sub(FROZEN_AFTER * 2).expect("the machine is up for longer");
    let health = Health::new(1, long_ago);
    health.beat(0, long_ago);
    with_admin(health, async |address, _| {
        assert_eq!(say(address, "GET /livez").await, "");
        assert_eq!(say(address, "GET /readyz").await, "");
        assert!(say(address, "GET /metrics").await.starts_with("HTTP/1.1 200 "));
    })
    .await;
}
