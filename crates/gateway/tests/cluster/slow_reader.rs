//! A client that does not read is closed with a code that says come back; others notice nothing.

use std::time::Duration;

use crate::client::Client;
use crate::dial;
use crate::fleet::Fleet;

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_resumes_with_nothing_missing() {
    // Small bounds, so that the kernel's buffers and not the test's patience fill up.
    let settings = "[limits]\nmessage_bytes_max = 65536\noutbox_bytes_max = 262144\nmessages_per_second = 100000\n\
                    messages_burst = 100000\n";
    let fleet = Fleet::start(1, None, settings);
    let address = fleet.gateway(0).listen_addr();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let token = fleet.token("acme", "slow", &["collection:*"]);
    let mut slow = Client::upgrade(stream, "/ws", Some(&token)).await;
    slow.expect("welcome").await;
    slow.subscribe("collection:42:*", None).await;
    let mut quick = fleet.client(0, "quick").await;
    quick.subscribe("collection:42:*", None).await;

    let mut publisher = fleet.client(0, "worker").await;
    let filler = "x".repeat(32_000);
    let total = 400;
    for n in 0..total {
        let payload = format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
        let frame = format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"m","payload":{payload}}}"#);
        publisher.say(&frame).await;
        assert_eq!(publisher.expect("ack").await["type"], "ack");
        let frame = quick.expect("m").await;
        assert_eq!(frame["payload"]["n"], n, "the quick one is never held up");
    }
    // Now it reads what was on its way, and is told why the rest is not.
    let (mut heard, mut position) = (Vec::new(), None);
    loop {
        let frame = slow.next().await;
        match frame["type"].as_str().unwrap() {
            "m" => {
                heard.push(frame["payload"]["n"].as_u64().unwrap());
                position = frame["position"].as_str().map(str::to_owned);
            }
            "bye" => assert_eq!(frame["payload"]["reconnect"], true),
            "close" => break assert_eq!(frame["code"], 4000),
            _ => panic!("{frame}"),
        }
    }
    assert!(heard.len() < total as usize, "the outbox was full");
    let mut again = fleet.client(0, "slow").await;
    again.subscribe("collection:42:*", position.as_deref()).await;
    while heard.len() < total as usize {
        heard.push(again.expect("m").await["payload"]["n"].as_u64().unwrap());
    }
    assert!(heard.iter().copied().eq(0..total), "{heard:?}");
}

#[tokio::test]
async fn a_client_that_is_silent_is_pinged_and_then_closed() {
    let fleet = Fleet::start(1, None, "[limits]\nping_interval_ms = 2000\npong_timeout_ms = 1000\n");
    // A raw socket answers no ping, as a client whose network is gone.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stream = tokio::net::TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let mut stream = dial::over(stream).await;
    let token = fleet.token("acme", "gone", &[]);
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await.expect("it is closed").unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(bytes.windows(2).any(|pair| pair == [0x89, 0x00]), "a ping: {text}");
    assert!(text.contains("\"code\":4001"), "{text}");
    assert!(bytes.windows(4).any(|w| w[0] == 0x88 && w[2..4] == 4001u16.to_be_bytes()), "a close frame: {text}");
}
