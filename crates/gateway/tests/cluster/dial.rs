//! How clients reach the gateways: over plain TCP. The test binary `tls` has another `dial`, and runs the same tests.

use tokio::net::TcpStream;

/// What a client speaks over.
pub(crate) type Stream = TcpStream;

/// What it needs in the gateways' configuration.
pub(crate) fn settings() -> String {
    String::new()
}

/// Begins to speak on a connected socket.
pub(crate) async fn over(socket: TcpStream) -> Stream {
    socket
}
