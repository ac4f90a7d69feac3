//! Free loopback ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::failure::Failure;

/// Below the ports that Linux gives to outgoing connections (32768 and up), so that no connection made between
/// choosing a port and listening on it can take it.
const FIRST: u16 = 20_000;
const PORTS: u16 = 12_000;

/// `count` different addresses on which nobody listens now. Two runs at once begin at different places.
pub(super) fn free(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let start = std::process::id() % u32::from(PORTS);
    let order = (0..PORTS).map(|step| FIRST + ((start + u32::from(step)) % u32::from(PORTS)) as u16);
    let addresses = order.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free: Vec<SocketAddr> = addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect();
    if free.len() == count { Ok(free) } else { Err(Failure::new("no free ports on 127.0.0.1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_passed_over() {
        // Whoever else looks for ports listens on this one for a moment.
        let (first, _held) = loop {
            let first = free(1).unwrap()[0];
            if let Ok(held) = TcpListener::bind(first) {
                break (first, held);
            }
        };
        let two = free(2).unwrap();
        assert!(!two.contains(&first));
        assert_ne!(two[0], two[1]);
    }
}
