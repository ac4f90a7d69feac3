//! Taking a socket out of hyper and its runtime.

use std::io;
use std::net::TcpStream;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::transport::tls::Session;

/// A stream that hyper serves and that can be handed over.
pub(crate) trait HandOver: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Takes the socket out of the runtime of the calling thread.
    async fn hand_over(self) -> io::Result<(TcpStream, Option<Session>)>;
}

impl HandOver for tokio::net::TcpStream {
    async fn hand_over(self) -> io::Result<(TcpStream, Option<Session>)> {
        self.into_std().map(|socket| (socket, None))
    }
}

#[cfg(feature = "tls")]
impl HandOver for tokio_rustls::server::TlsStream<tokio::net::TcpStream> {
    /// The TLS session moves along with all bytes in it, decrypted or not.
    async fn hand_over(mut self) -> io::Result<(std::net::TcpStream, Option<Session>)> {
        // A record left here would wait until the shard writes something. That never happens if the client must send
        // `hello` first.
        tokio::io::AsyncWriteExt::flush(&mut self).await?;
        let (stream, session) = self.into_inner();
        Ok((stream.into_std()?, Some(Box::new(session))))
    }
}
