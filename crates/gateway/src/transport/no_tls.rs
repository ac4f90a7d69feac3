//! In place of `tls` in a gateway built without that feature. Nobody can have a [`Tls`] here, so nothing of this runs.

use std::io;
use std::net::Shutdown;

use tokio::net::TcpStream;

/// There is none.
#[derive(Debug, Clone)]
pub enum Tls {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Session {}

/// There is none.
#[derive(Debug)]
pub(crate) enum TlsSocket {}

impl Tls {
    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
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
