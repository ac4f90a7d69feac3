//! The listening sockets of an instance. They are bound before anything else starts.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::Config;

/// Connections that the kernel completes before they are accepted, because all clients of an instance may reconnect
/// at once. The kernel uses the smaller of this value and `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// An address that the instance cannot listen on.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {address}: {source}")]
pub struct BindError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// The bound sockets, which are not registered with a runtime yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    main: std::net::TcpListener,
    admin: std::net::TcpListener,
    agent: Option<std::net::TcpListener>,
    addresses: (SocketAddr, SocketAddr),
}

/// The listeners, registered with the runtime of the edge.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) main: TcpListener,
    pub(crate) admin: TcpListener,
    pub(crate) agent: Option<TcpListener>,
}

impl Listeners {
    pub(crate) fn bind(config: &Config) -> Result<Self, BindError> {
        let listen = |key, address| bind(address).map_err(|source| BindError { key, address, source });
        let main = listen("listen", config.listen)?;
        let admin = listen("admin_listen", config.admin_listen)?;
        let agent = config.agent_listen.map(|address| listen("agent_listen", address)).transpose()?;
        // A bound socket knows its address: port 0 has become the real port.
        let address = |listener: &std::net::TcpListener, asked| listener.local_addr().unwrap_or(asked);
        let addresses = (address(&main, config.listen), address(&admin, config.admin_listen));
        Ok(Self { main, admin, agent, addresses })
    }

    pub(crate) fn listen_addr(&self) -> SocketAddr {
        self.addresses.0
    }

    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.addresses.1
    }

    /// Registers the sockets with the runtime of the calling thread.
    pub(crate) fn register(self) -> io::Result<Listening> {
        Ok(Listening {
            main: TcpListener::from_std(self.main)?,
            admin: TcpListener::from_std(self.admin)?,
            agent: self.agent.map(TcpListener::from_std).transpose()?,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Sockets of a predecessor in TIME_WAIT must not prevent its successor from binding the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
