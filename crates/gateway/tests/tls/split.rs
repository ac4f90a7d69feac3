//! Records that come in pieces of one byte.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::fleet::Fleet;

/// Carries one connection, each byte in a packet of its own.
async fn crumble(listener: TcpListener, to: SocketAddr) {
    let (client, _) = listener.accept().await.unwrap();
    let gateway = TcpStream::connect(to).await.unwrap();
    client.set_nodelay(true).unwrap();
    gateway.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    tokio::join!(carry(&mut from_client, &mut to_gateway), carry(&mut from_gateway, &mut to_client));
}

async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    while let Ok(byte) = from.read_u8().await {
        if to.write_u8(byte).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_comes_byte_by_byte_is_served() {
    let fleet = Fleet::start(1, None, "");
    let mut carriers = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    carriers.spawn(crumble(listener, fleet.gateway(0).listen_addr()));
    let token = fleet.token("acme", "thin", &["collection:*"]);
    let mut slow = Client::connect(proxy, "/ws", Some(&token)).await;
    slow.expect("welcome").await;
    slow.subscribe("collection:42:*", None).await;
    let mut other = fleet.client(0, "other").await;
    other.subscribe("collection:42:*", None).await;
    for n in 0..5 {
        slow.send_text(&format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"n","payload":{n}}}"#))
            .await;
    }
    assert_eq!(other.messages(5).await.0, [0, 1, 2, 3, 4]);
    let mut received = Vec::new();
    while received.len() < 5 {
        let frame = slow.next().await;
        if frame["type"] == "n" {
            received.push(frame["payload"].as_u64().unwrap());
        }
    }
    assert_eq!(received, [0, 1, 2, 3, 4]);
}
