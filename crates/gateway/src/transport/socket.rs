//! One client's socket in its shard.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::transport::tls::{Session, TlsSocket};

/// A socket that never blocks. It is an enum and not a trait object because the delivery loop calls it once per write.
/// In a gateway built without TLS no [`TlsSocket`] can exist, and the compiler removes the second variant.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP. If the client uses TLS, a proxy in front terminates it.
    Plain(TcpStream),
    /// The gateway terminates TLS.
    Tls(TlsSocket),
}

impl Socket {
    /// Registers a non-blocking socket with the runtime of the calling thread, permanently.
    pub(crate) fn register(stream: std::net::TcpStream, tls: Option<Session>) -> io::Result<Self> {
        match tls {
            None => TcpStream::from_std(stream).map(Self::Plain),
            Some(session) => TlsSocket::register(stream, session).map(Self::Tls),
        }
    }

    /// Waits until a read may succeed. Only one task may wait: its waker uses the socket's own slot. tokio's `readable`
    /// would keep a waiter in the future of every idle connection.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => poll_fn(|context| stream.poll_read_ready(context)).await,
            Self::Tls(socket) => socket.readable().await,
        }
    }

    /// Waits until a write may succeed.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.writable().await,
            Self::Tls(socket) => socket.writable().await,
        }
    }

    /// Reads. Without TLS this is one `read(2)`. 0 means that the client has ended its direction.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read(bytes),
            Self::Tls(socket) => socket.try_read(bytes),
        }
    }

    /// Writes. Without TLS this is one `write(2)`. A result below `bytes.len()` means that the socket is full. The
    /// caller must pass the remaining bytes first in its next write.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Tls(socket) => socket.try_write(bytes),
        }
    }

    /// The other end: the client, or a proxy in front. `None` if it is gone.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(socket) => socket.stream(),
        };
        stream.peer_addr().ok()
    }

    /// Limits how long sent bytes may stay unacknowledged (RFC 5482). After that the connection fails. The limit also
    /// applies to a client that is reachable and reads nothing.
    pub(crate) fn set_user_timeout(&self, timeout: Duration) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(socket) => socket.stream(),
        };
        // This fails only if the client has already disconnected.
        #[cfg(target_os = "linux")]
        drop(socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout)));
        #[cfg(not(target_os = "linux"))]
        let _ = (stream, timeout);
    }

    /// Shuts the connection down in the given direction. The reader then sees the end.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            // This fails only if the client has already disconnected.
            Self::Plain(stream) => drop(socket2::SockRef::from(stream).shutdown(how)),
            Self::Tls(socket) => socket.shutdown(how),
        }
    }
}
