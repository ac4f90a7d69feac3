//! A client that does not read is given what it missed when it reads again; others notice nothing.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::fleet::Fleet;
use crate::raw::Raw;
use crate::receiver::{Kept, Receiver, Transport};

over_both_transports!(
    a_client_that_stops_reading_gets_everything_later_and_in_order,
    many_that_stop_reading_stay_within_the_budget_and_get_everything_later,
);

async fn a_client_that_stops_reading_gets_everything_later_and_in_order(transport: Transport) {
    let fleet = Fleet::start(1, None, SETTINGS);
    let mut slow = small_window(transport, &fleet, "slow").await;
    let mut quick = fleet.client(0, "quick").await;
    quick.subscribe("collection:42:*", None).await;

    let mut publisher = fleet.client(0, "worker").await;
    let filler = "x".repeat(32_000);
    let total = 400;
    for n in 0..total {
        let payload = format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
        let frame = format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"m","payload":{payload}}}"#);
        publisher.send_text(&frame).await;
        assert_eq!(publisher.expect("ack").await["type"], "ack");
        let frame = quick.expect("m").await;
        assert_eq!(frame["payload"]["n"], n, "the quick one is never held up");
    }
    // Now it reads what was on its way, and what was not kept for it comes from history.
    let mut received = Vec::new();
    while received.len() < total as usize {
        let frame = slow.next().await;
        match frame["type"].as_str().unwrap() {
            "m" => received.push(frame["payload"]["n"].as_u64().unwrap()),
            _ => panic!("{frame}"),
        }
    }
    assert!(received.iter().copied().eq(0..total), "{received:?}");
    assert!(fleet.metric(0, "tidegate_slow_catch_ups_total").await >= 1.0, "it was too slow to stay live");
    assert_eq!(fleet.metric(0, "tidegate_slow_closes_total").await, 0.0);
}

/// Small bounds, so that the kernel's buffers and not the test's patience fill up. Who does not read answers no pings.
const SETTINGS: &str = "[limits]\nmessage_bytes_max = 65536\noutbox_bytes_max = 262144\nmessages_per_second = 100000\n\
                        messages_burst = 100000\nping_interval_ms = 600000\npong_timeout_ms = 599000\nwrite_timeout_ms = 600000\n";

/// A subscribed client that will not take much before it reads.
async fn small_window(transport: Transport, fleet: &Fleet, user: &str) -> Receiver {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let token = fleet.token("acme", user, &["collection:*"]);
    let mut client = Kept::nothing(transport, &token, &["collection:42:*"]).connect_over(stream).await;
    client.until_subscribed().await;
    client
}

async fn many_that_stop_reading_stay_within_the_budget_and_get_everything_later(transport: Transport) {
    const BUDGET: f64 = 1_048_576.0;
    let fleet = Fleet::start(1, None, &format!("{SETTINGS}backlog_bytes_max = {BUDGET}\n"));
    let mut slow = Vec::new();
    for n in 0..16 {
        slow.push(small_window(transport, &fleet, &format!("slow-{n}")).await);
    }
    let mut quick = fleet.client(0, "quick").await;
    quick.subscribe("collection:42:*", None).await;
    let mut publisher = fleet.client(0, "worker").await;
    let filler = "x".repeat(32_000);
    let total = 220;
    let mut highest = 0.0_f64;
    for n in 0..total {
        let payload = format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
        let frame = format!(r#"{{"type":"publish","channel":"collection:42:ops","event":"m","payload":{payload}}}"#);
        publisher.send_text(&frame).await;
        publisher.expect("ack").await;
        assert_eq!(quick.expect("m").await["payload"]["n"], n, "the quick one is never held up");
        if n % 5 == 0 {
            highest = highest.max(fleet.metric(0, "tidegate_backlog_bytes").await);
        }
    }
    assert!(fleet.metric(0, "tidegate_slow_evictions_total").await > 0.0, "the budget was reached");
    // One message for all of them may have come since it was last looked at.
    assert!(highest <= BUDGET + 16.0 * 33_000.0, "{highest} bytes waited at once");
    for client in &mut slow {
        for n in 0..total {
            let frame = client.next().await;
            assert_eq!(frame["payload"]["n"], n, "{}", frame["type"]);
        }
    }
    assert_eq!(fleet.metric(0, "tidegate_slow_closes_total").await, 0.0);
    assert_eq!(fleet.metric(0, "tidegate_backlog_bytes").await, 0.0);
}

#[tokio::test]
async fn a_client_that_is_silent_is_pinged_and_then_closed() {
    let fleet = Fleet::start(1, None, "[limits]\nping_interval_ms = 2000\npong_timeout_ms = 1000\n");
    // A raw socket answers no ping, as a client whose network is gone.
    let socket = tokio::net::TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    let authorization = format!("Authorization: Bearer {}\r\n", fleet.token("acme", "gone", &[]));
    let mut stream = Raw::open(socket, &authorization).await.expect("101").stream;
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await.expect("it is closed").unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(bytes.windows(2).any(|pair| pair == [0x89, 0x02]), "a ping: {text}");
    assert!(text.contains("\"code\":4001"), "{text}");
    assert!(bytes.windows(4).any(|w| w[0] == 0x88 && w[2..4] == 4001u16.to_be_bytes()), "a close frame: {text}");
}
