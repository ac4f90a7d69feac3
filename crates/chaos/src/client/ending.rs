//! How a client ends its connection, and how it lets it be ended.

use std::time::Duration;

use test_support::Random;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::entrance::Socket;

/// For a gateway to take a close frame, or to end the connection behind one.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(1_000);
/// How long a connection that nobody reads is still there. A gateway asks every two seconds whether anybody does.
const UNREAD: Duration = Duration::from_millis(3_000);

/// One way to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a close frame.
    Close,
    /// The socket is closed without one.
    Cut,
    /// It is reset: what is on its way is thrown away.
    Reset,
    /// It stays open and is not read any more, as when a network is lost.
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
                // Its client is back long before.
                tokio::spawn(async move {
                    sleep(UNREAD).await;
                    drop(socket);
                });
            }
        }
    }
}

impl Ending {
    /// An event stream has no close frame: its client closes the socket.
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

/// Reads on behind a close frame, which sends the answer to it, until the gateway ends the connection.
pub(super) async fn answer_close(socket: &mut Socket) {
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = timeout(CLOSE_TIME_MAX, ended).await;
}
