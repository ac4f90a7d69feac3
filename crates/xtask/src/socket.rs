//! A minimal WebSocket client for checks from outside a cluster: one socket, text frames, blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::web_socket::{client_frame, upgrade_request};

use crate::http;

/// Far above any time limit of the product. An answer that is not there by then will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An open WebSocket connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    head: String,
    answers_pings: bool,
}

impl Socket {
    /// Connects to `/ws` with these header lines (each ends with `\r\n`). A reply other than 101 is an error.
    pub(crate) fn open(address: SocketAddr, headers: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        // The request is one write. In pieces, the second would wait for the acknowledgement of the first.
        let request = upgrade_request(address, &format!("Sec-WebSocket-Protocol: tidegate.v1\r\n{headers}"));
        stream.write_all(request.as_bytes())?;
        let head = read_head(&mut stream)?;
        match http::status(&head)? {
            101 => Ok(Self { stream, head, answers_pings: true }),
            status => Err(io::Error::other(format!("the upgrade was answered {status}"))),
        }
    }

    /// The value of a cookie that the reply set.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = http::headers(&self.head, "set-cookie").filter_map(|line| line.split(';').next()?.split_once('='));
        pairs.into_iter().find(|(cookie, _)| *cookie == name).map(|(_, value)| value)
    }

    /// Sends one text frame.
    pub(crate) fn send(&mut self, frame: &Value) -> io::Result<()> {
        self.write_frame(0x1, frame.to_string().as_bytes())
    }

    /// Answers the gateway's close as every client does, and waits until the gateway ends the connection.
    pub(crate) fn answer_close(&mut self, code: u16) -> io::Result<()> {
        self.write_frame(0x8, &code.to_be_bytes())?;
        self.wait_for_end().map(drop)
    }

    fn write_frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&client_frame(opcode, payload))
    }

    /// From now on this client answers no ping.
    pub(crate) fn fall_silent(&mut self) {
        self.answers_pings = false;
    }

    /// Returns the next text frame of any type. A close is an error.
    pub(crate) fn next(&mut self) -> io::Result<Value> {
        loop {
            match self.read_frame()? {
                (0x1, payload) => return Ok(serde_json::from_slice(&payload)?),
                (0x8, _) => return Err(io::Error::other("closed")),
                _ => {}
            }
        }
    }

    /// Reads up to the gateway's close, at most for this long, and does not answer it. Returns the close code.
    pub(crate) fn receive_close(&mut self, within: Duration) -> io::Result<u16> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let (opcode, payload) = self.read_frame()?;
            if opcode == 0x8 {
                self.stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                return Ok(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
            }
        }
    }

    /// Returns the next text frame of this type. Skips all other frames, pings too.
    pub(crate) fn receive(&mut self, kind: &str) -> io::Result<Value> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            let (opcode, payload) = self.read_frame()?;
            match opcode {
                0x1 => {
                    let frame: Value = serde_json::from_slice(&payload)?;
                    if frame["type"] == kind {
                        return Ok(frame);
                    }
                    seen.push(frame.to_string());
                }
                0x8 => return Err(io::Error::other(format!("closed while waiting for `{kind}`; before it: {seen:?}"))),
                _ => {}
            }
        }
        Err(io::Error::other(format!("no `{kind}` in {ANSWER_WITHIN:?}; instead: {seen:?}")))
    }

    /// Reads until the connection ends. Returns how long that took.
    pub(crate) fn wait_for_end(&mut self) -> io::Result<Duration> {
        let started = Instant::now();
        loop {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return Ok(started.elapsed()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(started.elapsed()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the opcode and the payload. Frames of a server are not masked. Answers pings.
    fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let [first, second] = self.read_array()?;
        let bytes = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.read_array()?)),
            127 => u64::from_be_bytes(self.read_array()?),
            short => u64::from(short),
        };
        let mut payload = Vec::new();
        (&mut self.stream).take(bytes).read_to_end(&mut payload)?;
        if payload.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first & 0x0f == 0x9 && self.answers_pings {
            self.write_frame(0xa, &payload)?;
        }
        Ok((first & 0x0f, payload))
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads byte by byte, so that no byte of the first frame is consumed.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("a head without an end"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
