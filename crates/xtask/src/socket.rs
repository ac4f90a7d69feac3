//! A WebSocket client that is just enough to look at a cluster from outside: text frames, one socket, blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http;

/// Far above any budget: who waits this long waits for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The example key of RFC 6455 §1.3. Nothing between us and the gateway caches, so it need not be random.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    head: String,
}

impl Socket {
    /// Connects to `/ws` with these header lines (each ending in `\r\n`). An answer other than 101 is an error.
    pub(crate) fn open(address: SocketAddr, headers: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        // One write: in pieces it would wait for the acknowledgement of the first.
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: tidegate.v1\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let head = read_head(&mut stream)?;
        match http::status(&head)? {
            101 => Ok(Self { stream, head }),
            status => Err(io::Error::other(format!("the upgrade was answered {status}"))),
        }
    }

    /// The value of a cookie that the answer set.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = http::headers(&self.head, "set-cookie").filter_map(|line| line.split(';').next()?.split_once('='));
        pairs.into_iter().find(|(cookie, _)| *cookie == name).map(|(_, value)| value)
    }

    /// Sends one short text frame, masked with zeros: RFC 6455 asks for a mask, and here nobody needs it to be random.
    pub(crate) fn send(&mut self, frame: &Value) -> io::Result<()> {
        let text = frame.to_string();
        let bytes = u8::try_from(text.len()).ok().filter(|bytes| *bytes < 126);
        let bytes = bytes.ok_or_else(|| io::Error::other("too long for this client"))?;
        let mut message = vec![0x81, 0x80 | bytes];
        message.extend([0; 4]);
        message.extend(text.as_bytes());
        self.stream.write_all(&message)
    }

    /// The next text frame of this type; others are passed over, pings too.
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

    /// Reads until the connection ends, and tells how long that took.
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

    /// The opcode and the payload; a server's frames are not masked.
    fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let [first, second] = self.read_array()?;
        let bytes = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.read_array()?)),
            127 => u64::from_be_bytes(self.read_array()?),
            short => u64::from(short),
        };
        let mut payload = Vec::new();
        (&mut self.stream).take(bytes).read_to_end(&mut payload)?;
        if payload.len() as u64 == bytes {
            Ok((first & 0x0f, payload))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Byte by byte, so that nothing of the first frame is taken along.
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
