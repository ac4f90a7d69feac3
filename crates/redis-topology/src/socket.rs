//! Opens all sockets to Redis. They send at once, and end when their peer has vanished.
//!
//! ```text
//!   connect ─▶ RedisSocket             pub/sub, Sentinels' announcements, the broker's commands
//!   open ─▶ MultiplexedConnection      pools, the CLI, questions to Sentinels and clusters, redirected calls
//! ```
//!
//! A peer has vanished if its machine or the network to it is gone: no packet comes back, and nothing ends the connection.
//! Without these options the kernel keeps an idle connection to it for ever, and one that sends for about 15 minutes. For a
//! peer that is there and does not answer, callers have deadlines.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::node::Node;
use crate::tls::{RedisTls, TlsSocket};

/// The kernel ends a connection about this long after its peer has vanished, whether the connection is idle or sending.
pub const DEAD_PEER: Duration = Duration::from_secs(10);

/// Number of keepalive probes in the second half of [`DEAD_PEER`]; in the first half the kernel waits.
const KEEPALIVE_RETRIES: u32 = 5;

/// Room for one read through TLS, in bytes: the plain text of one record.
const TLS_READ_BYTES: usize = 16 * 1024;

fn keepalive() -> TcpKeepalive {
    let half = DEAD_PEER / 2;
    TcpKeepalive::new().with_time(half).with_interval(half / KEEPALIVE_RETRIES).with_retries(KEEPALIVE_RETRIES)
}

/// A socket to Redis, with or without TLS.
#[derive(Debug)]
pub struct RedisSocket(Stream);

/// An enum and not a trait object, because every message is read from it.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(TlsSocket),
}

/// Opens a socket to the first of the addresses that accepts the connection. With TLS, `host` is the name or address that
/// the server's certificate must have.
pub(crate) async fn connect(
    address: impl ToSocketAddrs,
    host: &str,
    tls: Option<&RedisTls>,
) -> io::Result<RedisSocket> {
    let stream = connect_tcp(address).await?;
    Ok(RedisSocket(match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(tls.begin(stream, host).await?),
    }))
}

async fn connect_tcp(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    Ok(stream)
}

// === impl RedisSocket ===

impl RedisSocket {
    fn stream(&self) -> &TcpStream {
        match &self.0 {
            Stream::Plain(stream) => stream,
            Stream::Tls(socket) => socket.stream(),
        }
    }

    /// Waits until a read, or a write, may succeed.
    ///
    /// # Errors
    /// If the socket is gone.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        self.stream().ready(interest).await.map(drop)
    }

    /// Reads into the spare capacity of a buffer. 0 means that the server has ended its direction.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read, and if the socket is gone.
    pub fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match &mut self.0 {
            Stream::Plain(stream) => stream.try_read_buf(buffer),
            Stream::Tls(socket) => {
                let length = buffer.len();
                buffer.resize(buffer.capacity().min(length + TLS_READ_BYTES), 0);
                let read = socket.try_read(&mut buffer[length..]);
                buffer.truncate(length + *read.as_ref().unwrap_or(&0));
                read
            }
        }
    }

    /// Writes a part of the bytes. TLS may keep what it has taken: [`Self::try_flush`] writes it.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full, and if it is gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Stream::Plain(stream) => stream.try_write(bytes),
            Stream::Tls(socket) => socket.try_write(bytes),
        }
    }

    /// Writes what [`Self::try_write`] has taken. Returns whether everything is written.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        match &mut self.0 {
            Stream::Plain(_) => Ok(true),
            Stream::Tls(socket) => socket.try_flush(),
        }
    }
}

impl AsyncRead for RedisSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for RedisSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(socket) => Pin::new(socket).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.0, Stream::Plain(_))
    }
}

/// The same options, for sockets that the Redis client opens itself.
pub(crate) fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(DEAD_PEER);
    settings
}

/// How the Redis client connects to a server, with this user, password and database.
pub(crate) fn connection_info(node: &Node, settings: &RedisConnectionInfo, tls: Option<&RedisTls>) -> ConnectionInfo {
    let address = match tls {
        None => ConnectionAddr::Tcp(node.host.clone(), node.port),
        Some(tls) => tls.address(node),
    };
    let info = address.into_connection_info().expect("an address is enough");
    info.set_redis_settings(settings.clone())
}

/// Connects to a server with the Redis client.
///
/// # Errors
/// If the server does not accept the connection in time, or refuses the user.
pub async fn open(info: ConnectionInfo, limits: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
    let info = info.set_tcp_settings(tcp_settings());
    Client::open(info)?.get_multiplexed_async_connection_with_config(limits).await
}

/// As [`open`], with one deadline for connecting and for each answer.
pub(crate) async fn open_within(info: ConnectionInfo, deadline: Duration) -> Result<MultiplexedConnection, RedisError> {
    let limits =
        AsyncConnectionConfig::new().set_connection_timeout(Some(deadline)).set_response_timeout(Some(deadline));
    open(info, &limits).await
}
