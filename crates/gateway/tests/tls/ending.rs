//! How a connection ends under TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;
use crate::fleet::Fleet;

#[tokio::test]
async fn a_client_that_says_close_notify_is_gone_although_its_tcp_connection_stays() {
    let fleet = Fleet::start(1, None, "");
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut stream = dial::over(socket).await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer").unwrap());
    }
    let (mut socket, mut session) = stream.into_inner();
    session.send_close_notify();
    let mut alert = Vec::new();
    session.write_tls(&mut alert).unwrap();
    socket.write_all(&alert).await.unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("the gateway closes too").unwrap();
}
