//! One client's socket, as its shard sees it.

use std::io;
use std::net::Shutdown;

use tokio::net::TcpStream;

/// A socket that never blocks. An enum and not a trait object: the delivery loop calls it once per write.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP; whoever stands in front terminates TLS.
    Plain(TcpStream),
}

impl Socket {
    /// Registers a non-blocking socket with the runtime of the calling thread, for good.
    pub(crate) fn plain(stream: std::net::TcpStream) -> io::Result<Self> {
        TcpStream::from_std(stream).map(Self::Plain)
    }

    /// Waits until a read may succeed.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
        }
    }

    /// Waits until a write may succeed.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.writable().await,
        }
    }

    /// One `read(2)`. 0 means the client is done.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read(bytes),
        }
    }

    /// One `write(2)`.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
        }
    }

    /// Ends the connection in the given direction; the reader then sees the end.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            // It fails only when the client was faster.
            Self::Plain(stream) => drop(socket2::SockRef::from(stream).shutdown(how)),
        }
    }
}
