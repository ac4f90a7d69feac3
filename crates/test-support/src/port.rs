//! A port of loopback that belongs to one server, from before its start until long after it was killed.
//!
//! A port that is only free at the moment can go to another process when its server dies. Another test's Redis can take
//! it, and the replicas of the dead server then copy that Redis. Or one of ten thousand clients gets it for its end of
//! a connection, and the server cannot start again.
//!
//! A socket that is bound and does not listen keeps the port. The kernel gives the port to no process that asks for any
//! port (bind(2) with port 0, connect(2)). A server that names the port can also bind it (`SO_REUSEADDR`, socket(7)).
//! The kernel refuses connections while no server listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

/// A reserved port. Dropping it makes the port available again.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    pub fn take() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { address, _socket: socket })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn its_server_may_come_and_go_and_nobody_else_is_there() {
        let port = ReservedPort::take().unwrap();
        for _ in 0..3 {
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            drop((server.accept().unwrap(), client, server));
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
