//! The ways in which a client ends its connection, or lets the gateway end it.

use std::time::Duration;

use test_support::Random;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::entrance::Socket;

/// Time limit for a gateway to read a close frame, or to end the connection after one.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(1_000);
/// How long an unread connection stays open. A gateway checks every two seconds whether the client still reads.
const UNREAD: Duration = Duration::from_millis(3_000);

/// One way to leave a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client sends a close frame.
    Close,
    /// The client closes the socket without a close frame.
    Cut,
    /// The client resets the connection. Data in transit is discarded.
    Reset,
    /// The connection stays open and is not read any more, as after a lost network.
    Vanish,
}

impl Ending {
    pub(super) fn draw(random: &mut Random) -> Self {
        [Self::Close, Self::Cut, Self::Reset, Self::Vanish][random.below(4)]
    }

    pub(super) async fn end(self, mut socket: Socket) {
        match self {
            Self::Close => _ = timeout(CLOSE_TIME_MAX, socket.close()).await,
            Self::Cut => {}
            Self::Reset => _ = socket.set_reset(),
            Self::Vanish => {
                // The client reconnects long before this task ends.
                tokio::spawn(async move {
                    sleep(UNREAD).await;
                    drop(socket);
                });
            }
        }
    }
}

impl Ending {
    /// An event stream has no close frame, so the client closes the socket.
    pub(super) fn end_stream(self, stream: TcpStream) {
        match self {
            Self::Close | Self::Cut => {}
            Self::Reset => _ = stream.set_zero_linger(),
            Self::Vanish => {
                tokio::spawn(async move {
                    sleep(UNREAD).await;
                    drop(stream);
                });
            }
        }
    }
}

/// Continues to read after a close frame, which sends the answer to it, until the gateway ends the connection.
pub(super) async fn answer_close(socket: &mut Socket) {
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = timeout(CLOSE_TIME_MAX, ended).await;
}
