//! A WebSocket by the byte, which answers nothing by itself.

use std::time::{Duration, Instant};

use test_support::web_socket::{client_frame, upgrade_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;

pub(crate) struct Raw {
    pub(crate) stream: dial::Stream,
}

/// A server's frame.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn close_code(&self) -> Option<u16> {
        (self.opcode == 0x8).then(|| u16::from_be_bytes([self.payload[0], self.payload[1]]))
    }
}

impl Raw {
    /// Asks for an upgrade; `None` if the answer is not 101.
    pub(crate) async fn open(socket: TcpStream, headers: &str) -> Option<Self> {
        Self::ask(dial::over(socket).await, headers).await
    }

    pub(crate) async fn ask(mut stream: dial::Stream, headers: &str) -> Option<Self> {
        stream.write_all(upgrade_request("gateway", headers).as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer or an end").ok()?);
        }
        head.starts_with(b"HTTP/1.1 101 ").then_some(Self { stream })
    }

    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&client_frame(opcode, payload)).await.expect("the gateway reads");
    }

    /// The next frame; `None` when the gateway has ended its direction.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        timeout(DEADLINE, self.read_frame()).await.expect("a frame or an end in time")
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).await.ok()?;
        let len = match header[1] {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => usize::try_from(self.stream.read_u64().await.ok()?).ok()?,
            short => usize::from(short),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { opcode: header[0] & 0xf, payload })
    }

    /// Reads on to the close frame.
    pub(crate) async fn close(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("a close frame comes before the end");
            if let Some(code) = frame.close_code() {
                return code;
            }
        }
    }

    /// Time until the gateway ends its direction, with no frame before that.
    pub(crate) async fn end(&mut self) -> Duration {
        let began = Instant::now();
        assert!(self.frame().await.is_none(), "nothing follows a close");
        began.elapsed()
    }
}
