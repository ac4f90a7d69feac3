//! Opens all sockets to Redis. They send at once, and end when their peer has vanished.
//!
//! ```text
//!   connect ─▶ TcpStream               pub/sub, Sentinels' announcements, the broker's commands
//!   open ─▶ MultiplexedConnection      pools, the CLI, questions to Sentinels and clusters, redirected calls
//! ```
//!
//! A peer has vanished if its machine or the network to it is gone: no packet comes back, and nothing ends the connection.
//! Without these options the kernel keeps an idle connection to it for ever, and one that sends for about 15 minutes. For a
//! peer that is there and does not answer, callers have deadlines.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisError};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, ToSocketAddrs};

/// The kernel ends a connection about this long after its peer has vanished, whether the connection is idle or sending.
pub const DEAD_PEER: Duration = Duration::from_secs(10);

/// Number of keepalive probes in the second half of [`DEAD_PEER`]; in the first half the kernel waits.
const KEEPALIVE_RETRIES: u32 = 5;

fn keepalive() -> TcpKeepalive {
    let half = DEAD_PEER / 2;
    TcpKeepalive::new().with_time(half).with_interval(half / KEEPALIVE_RETRIES).with_retries(KEEPALIVE_RETRIES)
}

/// Opens a socket to the first of the addresses that accepts the connection.
///
/// # Errors
/// If no address accepts the connection.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    Ok(stream)
}

/// The same options, for sockets that the Redis client opens itself.
pub(crate) fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(DEAD_PEER);
    settings
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
