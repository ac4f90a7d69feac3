//! One client's socket, as its shard sees it.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::transport::tls::{Session, TlsSocket};

/// A socket that never blocks. An enum and not a trait object: the delivery loop calls it once per write. In a
/// gateway built without TLS no [`TlsSocket`] can exist, and nothing is left of the second variant.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP; whoever stands in front terminates TLS, if there is any.
    Plain(TcpStream),
    /// TLS ends here.
    Tls(TlsSocket),
}

impl Socket {
    /// Registers a non-blocking socket with the runtime of the calling thread, for good.
    pub(crate) fn register(stream: std::net::TcpStream, tls: Option<Session>) -> io::Result<Self> {
        match tls {
            None => TcpStream::from_std(stream).map(Self::Plain),
            Some(session) => TlsSocket::register(stream, session).map(Self::Tls),
        }
    }

    /// Waits until a read may succeed. One task alone may wait: its waker takes the socket's own place for one, where
    /// tokio's `readable` would keep a waiter in the future of every idle connection.
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

    /// Plain, one `read(2)`. 0 means the client is done.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read(bytes),
            Self::Tls(socket) => socket.try_read(bytes),
        }
    }

    /// Plain, one `write(2)`. Less than all means that the socket is full. What was not taken is the caller's to
    /// bring again, and comes first then.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Tls(socket) => socket.try_write(bytes),
        }
    }

    /// Bounds the time for which sent bytes may stay unacknowledged (RFC 5482): then the connection fails. The same bound
    /// holds for a peer that is there and takes nothing.
    pub(crate) fn set_user_timeout(&self, timeout: Duration) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(socket) => socket.stream(),
        };
        // It fails only when the client was faster.
        #[cfg(target_os = "linux")]
        drop(socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout)));
        #[cfg(not(target_os = "linux"))]
        let _ = (stream, timeout);
    }

    /// Ends the connection in the given direction; the reader then sees the end.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            // It fails only when the client was faster.
            Self::Plain(stream) => drop(socket2::SockRef::from(stream).shutdown(how)),
            Self::Tls(socket) => socket.shutdown(how),
        }
    }
}
