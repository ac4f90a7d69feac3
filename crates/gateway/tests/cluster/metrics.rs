//! What the gateways of a fleet count.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::DEADLINE;
use crate::fleet::Fleet;

/// Asks over plain HTTP and gives the whole answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is read");
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer in time").expect("text");
    answer
}

/// The sum of a metric over all gateways.
pub(crate) async fn metric(fleet: &Fleet, name: &str) -> u64 {
    let mut sum = 0;
    for gateway in fleet.gateways.iter().flatten() {
        let address = gateway.admin_addr();
        let text = get(address, "/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
        sum += value.unwrap_or_else(|| panic!("{name} in\n{text}"));
    }
    sum
}

/// Waits until a metric, summed over all gateways, is this.
pub(crate) async fn until(fleet: &Fleet, name: &str, expected: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let value = metric(fleet, name).await;
        if value == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {value}, not {expected}");
        sleep(Duration::from_millis(10)).await;
    }
}
