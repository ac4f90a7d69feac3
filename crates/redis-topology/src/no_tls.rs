//! Replaces `tls` where the crate is built without that feature. No value of these types can exist, so none of this code
//! runs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use redis::ConnectionAddr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::node::Node;
use crate::tls_files::{BadRedisTls, TlsFiles};

/// A type without values.
#[derive(Debug, Clone)]
pub(crate) enum RedisTls {}

/// A type without values.
#[derive(Debug)]
pub(crate) enum TlsSocket {}

impl RedisTls {
    /// Says which feature is missing.
    pub(crate) fn new(_: &TlsFiles) -> Result<Self, BadRedisTls> {
        Err(BadRedisTls::Missing)
    }

    pub(crate) fn replace(&self, _: &Self) {
        match *self {}
    }

    pub(crate) fn generation(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn address(&self, _: &Node) -> ConnectionAddr {
        match *self {}
    }

    pub(crate) async fn begin(&self, _: TcpStream, _: &str) -> io::Result<TlsSocket> {
        match *self {}
    }
}

impl TlsSocket {
    pub(crate) fn stream(&self) -> &TcpStream {
        match *self {}
    }

    pub(crate) fn try_read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn try_write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match *self {}
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
