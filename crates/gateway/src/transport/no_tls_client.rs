//! In place of `tls_client.rs` in gateways built without the feature `tls`: they refuse addresses that need it.

use std::io;

use tokio::net::TcpStream;

pub(crate) enum TlsClient {}

impl TlsClient {
    pub(crate) fn new(_: Option<&[u8]>) -> Result<Self, String> {
        Err("this gateway is built without TLS".into())
    }

    pub(crate) async fn connect(&self, _: &str, _: TcpStream) -> io::Result<TcpStream> {
        match *self {}
    }
}
