//! How a connection ends under TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::fleet::Fleet;
use crate::raw::Raw;

#[tokio::test]
async fn a_client_that_says_close_notify_is_gone_although_its_tcp_connection_stays() {
    let fleet = Fleet::start(1, None, "");
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let stream = Raw::open(socket, "").await.expect("101").stream;
    let (mut socket, mut session) = stream.into_inner();
    session.send_close_notify();
    let mut alert = Vec::new();
    session.write_tls(&mut alert).unwrap();
    socket.write_all(&alert).await.unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("the gateway closes too").unwrap();
}
