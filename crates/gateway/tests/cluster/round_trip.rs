//! How far away a client is: measured by pings, told by the instance that holds it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;

const FAR_MS: u64 = 150;

/// A way to a gateway that takes [`FAR_MS`] in each direction.
async fn far_way(gateway: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (client_in, client_out) = client.into_split();
            let (gateway_in, gateway_out) = TcpStream::connect(gateway).await.unwrap().into_split();
            tokio::spawn(pass(client_in, gateway_out));
            tokio::spawn(pass(gateway_in, client_out));
        }
    });
    address
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        tokio::time::sleep(Duration::from_millis(FAR_MS)).await;
        if to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
}

async fn connections(admin: SocketAddr, query: &str) -> Vec<Value> {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET /connections{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["more"], false);
    body["connections"].as_array().unwrap().clone()
}

/// The shortest round trip of a user's connections.
fn of(found: &[Value], user: &str) -> Option<u64> {
    found.iter().filter(|row| row["user"] == user).filter_map(|row| row["rtt_ms"].as_u64()).min()
}

async fn connect(fleet: &Fleet, address: SocketAddr, tenant: &str, user: &str) {
    let token = fleet.token(tenant, user, &["collection:*"]);
    let mut client = Client::connect(address, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("collection:42:ops", None).await;
    // It answers pings as long as it reads.
    tokio::spawn(async move {
        loop {
            client.next().await;
        }
    });
}

#[tokio::test]
async fn an_instance_tells_how_far_away_its_clients_are() {
    let fleet = Fleet::start(1, None, "[limits]\nping_interval_ms = 5000\npong_timeout_ms = 4900\n");
    let (listen, admin) = (fleet.gateway(0).listen_addr(), fleet.gateway(0).admin_addr());
    connect(&fleet, listen, "acme", "near").await;
    connect(&fleet, far_way(listen).await, "acme", "far").await;
    connect(&fleet, listen, "other", "near").await;
    let until = tokio::time::Instant::now() + DEADLINE;
    let measured = loop {
        let found = connections(admin, "").await;
        assert_eq!(found.len(), 3, "{found:?}");
        // A near one's first answer may have had to wait for a busy machine.
        if found.iter().all(|row| row["rtt_ms"].is_u64()) && of(&found, "near") < of(&found, "far") {
            break found;
        }
        assert!(tokio::time::Instant::now() < until, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(measured.iter().all(|row| row["subscriptions"] == 1), "{measured:?}");
    assert!(of(&measured, "far") >= Some(2 * FAR_MS), "{measured:?}");
    for (query, users) in
        [("?tenant=other", vec!["near"]), ("?tenant=acme&user=far", vec!["far"]), ("?user=no", vec![])]
    {
        let found = connections(admin, query).await;
        assert_eq!(found.iter().map(|row| row["user"].as_str().unwrap()).collect::<Vec<_>>(), users, "{query}");
    }
    assert!(fleet.metric(0, "tidegate_client_rtt_seconds_count").await >= 3.0);
}
