//! Replaces `tls` in a gateway built without that feature. No value of [`Tls`] can exist, so none of this code runs.

use std::io;
use std::net::Shutdown;

use tokio::net::TcpStream;

/// A type without values.
#[derive(Debug, Clone)]
pub enum Tls {}

/// A type without values.
#[derive(Debug)]
pub(crate) enum Session {}

/// A type without values.
#[derive(Debug)]
pub(crate) enum TlsSocket {}

impl Tls {
    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
        match *self {}
    }

    pub(crate) fn replace(&self, _: &Self) {
        match *self {}
    }
}

impl TlsSocket {
    pub(crate) fn register(_: std::net::TcpStream, session: Session) -> io::Result<Self> {
        match session {}
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        match *self {}
    }

    pub(crate) fn shutdown(&self, _: Shutdown) {
        match *self {}
    }
}
