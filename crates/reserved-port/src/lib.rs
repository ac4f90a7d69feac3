//! A port of loopback that stays one server's own, from before it starts until long after it was killed.
//!
//! For tests and measurements alone. A port that is merely free at the moment is anybody's again when its server dies:
//! another test's Redis takes it, and the replicas of the dead one copy that; or one of ten thousand clients is given
//! it for its end of a connection, and the server cannot start again.
//!
//! A socket that is bound and does not listen keeps it: the kernel gives it to nobody who asks for any port (bind(2)
//! with port 0, connect(2)), lets a server that names it bind it beside (`SO_REUSEADDR`, socket(7)), and refuses
//! connections while there is none.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

/// The port is free for all when this is dropped.
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
