//! Frames that come in the packets of the request, before the 101: some of them lie decrypted in the TLS session when
//! the shard takes over, where no event of the socket tells of them.

use test_support::web_socket::{client_frame, upgrade_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;
use crate::fleet::Fleet;

#[tokio::test]
async fn frames_in_the_packets_of_the_upgrade_are_heard() {
    let fleet = Fleet::start(1, None, "");
    let token = fleet.token("acme", "hasty", &["system:*"]);
    let request = upgrade_request("gateway", &format!("Authorization: Bearer {token}\r\n"));
    // In one record with the request, within and beyond the 8 KiB that hyper reads at first; in records of their own.
    for filler_bytes in [200, 7_000, 12_000, 15_000, 40_000, 60_000] {
        let filler = "x".repeat(filler_bytes);
        let publish = format!(r#"{{"type":"publish","channel":"system:news","payload":"{filler}"}}"#);
        let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
        let mut stream = dial::over(socket).await;
        stream.write_all(&[request.as_bytes(), &client_frame(0x1, publish.as_bytes())].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut received = Vec::new();
        while !String::from_utf8_lossy(&received).contains(r#""type":"ack""#) {
            let read = timeout(DEADLINE, stream.read_buf(&mut received)).await;
            let n = read.unwrap_or_else(|_| panic!("no ack for {filler_bytes} bytes")).unwrap();
            assert!(n > 0, "closed: {}", String::from_utf8_lossy(&received));
        }
        assert!(received.starts_with(b"HTTP/1.1 101 "));
    }
}
