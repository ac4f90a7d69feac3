//! The receivers: thousands of raw sockets on one thread and one epoll. They are cheap enough to share a core with
//! Redis.
//!
//! ```text
//!   storm / connect_plain ─▶ ┌───────┐ ── each frame or event with data ─▶ the scenario (tally, latency)
//!                   poll ──▶ │Clients│ ── pong ─▶ the server that pinged
//!                            └───────┘ ── close, end of stream ─▶ Failure
//! ```
//!
//! Each round reads every readable socket once and then walks over the frame headers or the lines of the event stream.
//! No library copies, checks UTF-8 or allocates here, because the bench would then measure the library.

mod storm;
mod subscribe;

pub(crate) use storm::{ConnectPlan, Storm, storm};

use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::event::{Timespec, epoll::EventFlags};
use test_support::web_socket::client_frame;

use crate::event_walker::{Event, next_event};
use crate::failure::Failure;
use crate::frame_walker::{BadFrame, CLOSE, FRAME_BYTES_MAX, Frame, PING, PONG, TEXT, next_frame};
use crate::tick::{self, kind_of};

/// The most sockets that one round serves.
const EVENTS_MAX: usize = 512;
/// Buffer size of one read. An unfinished frame is put before the data, so the buffer is larger than the longest frame.
const SCRATCH_BYTES: usize = 256 * 1024;
const _: () = assert!(SCRATCH_BYTES >= 2 * FRAME_BYTES_MAX);

/// The transport that carries messages to the receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    /// Server-sent events, the response to `GET /sse`.
    EventStream,
}

/// All receivers of one server.
pub(crate) struct Clients {
    transport: Transport,
    epoll: OwnedFd,
    receivers: Vec<Receiver>,
    events: Vec<epoll::Event>,
    scratch: Box<[u8]>,
}

#[derive(Debug)]
struct Receiver {
    socket: TcpStream,
    /// The beginning of a frame that is not complete yet.
    tail: Vec<u8>,
}

impl Clients {
    /// A set without receivers.
    pub(crate) fn new(transport: Transport) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Failure::io("epoll_create"))?;
        let scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        Ok(Self { transport, epoll, receivers: Vec::new(), events: Vec::with_capacity(EVENTS_MAX), scratch })
    }

    /// Number of receivers that are connected to the server.
    pub(crate) fn len(&self) -> usize {
        self.receivers.len()
    }

    /// Adds an open socket. `tail` holds the bytes that were read but not parsed.
    fn adopt(&mut self, socket: TcpStream, tail: Vec<u8>) -> Result<(), Failure> {
        socket.set_nonblocking(true).map_err(Failure::io("set_nonblocking"))?;
        let data = epoll::EventData::new_u64(self.receivers.len() as u64);
        epoll::add(&self.epoll, &socket, data, EventFlags::IN).map_err(Failure::io("epoll_ctl"))?;
        self.receivers.push(Receiver { socket, tail });
        Ok(())
    }

    /// Adds `count` receivers of a server that sends without a request.
    pub(crate) fn connect_plain(&mut self, addr: SocketAddr, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let socket = TcpStream::connect(addr).map_err(Failure::io(format!("connecting to {addr}")))?;
            self.adopt(socket, Vec::new())?;
        }
        Ok(())
    }

    /// Waits at most `timeout` for data. Passes every complete text or binary frame, and every complete event with
    /// data, to `take` with the number of its receiver.
    pub(crate) fn poll(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(usize, Frame<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        wait(&self.epoll, &mut self.events, timeout)?;
        for event in &self.events {
            let number = event.data.u64() as usize;
            self.receivers[number].receive(self.transport, number, &mut self.scratch, &mut take)?;
        }
        Ok(())
    }
}

impl Transport {
    /// The first frame of `bytes`, or `None` if it is not complete yet. An event with data becomes a text frame. An
    /// event without data (a comment, an id alone) becomes a pong, which a receiver ignores.
    fn next_frame(self, bytes: &[u8]) -> Result<Option<Frame<'_>>, BadFrame> {
        if self == Self::WebSocket {
            return next_frame(bytes);
        }
        let Some(Event { bytes, name, data }) = next_event(bytes)? else { return Ok(None) };
        let opcode = if data.is_some() { TEXT } else { PONG };
        let payload = data.unwrap_or(Cow::Borrowed(b""));
        if opcode == TEXT && name.is_some_and(|name| !is_control(name, &payload)) {
            return Err(BadFrame);
        }
        Ok(Some(Frame { opcode, bytes, payload }))
    }
}

/// Whether the name of an event is the `type` of the control frame in its data. A browser does not dispatch a named
/// event as a message.
fn is_control(name: &[u8], data: &[u8]) -> bool {
    kind_of(data).is_some_and(|kind| kind.as_bytes() == name && kind != tick::KIND)
}

/// Runs one `epoll_wait` and stores the result in `events`.
fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, timeout: Duration) -> Result<(), Failure> {
    let timeout = Timespec::try_from(timeout).expect("timeouts here are seconds at most");
    events.clear();
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(Failure::io("epoll_wait")(errno)),
    }
}

impl Receiver {
    fn receive(
        &mut self,
        transport: Transport,
        number: usize,
        scratch: &mut [u8],
        take: &mut impl FnMut(usize, Frame<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let failed = |what: String| Failure::Receiver { receiver: number, what };
        let kept = self.tail.len();
        scratch[..kept].copy_from_slice(&self.tail);
        let read = match self.socket.read(&mut scratch[kept..]) {
            Ok(0) => return Err(failed("the server hung up".into())),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(failed(format!("read: {error}"))),
        };
        let bytes = &scratch[..kept + read];
        let mut at = 0;
        while let Some(frame) = transport
            .next_frame(&bytes[at..])
            .map_err(|_| failed("the server sent a broken frame header or event".into()))?
        {
            at += frame.bytes.len();
            match frame.opcode {
                PING => {
                    let pong = client_frame(PONG, &frame.payload);
                    self.socket.write_all(&pong).map_err(|error| failed(format!("pong: {error}")))?;
                }
                PONG => {}
                CLOSE => return Err(failed(format!("the server closed: {}", close_text(&frame.payload)))),
                _ => take(number, frame)?,
            }
        }
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[at..]);
        Ok(())
    }
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "without a code".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;
    use wire::{Opcode, WebSocketFrame};

    /// One client, and the server's end of its socket.
    fn pair(transport: Transport) -> (Clients, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut clients = Clients::new(transport).expect("an epoll");
        clients.connect_plain(listener.local_addr().expect("bound"), 1).expect("it listens");
        (clients, listener.accept().expect("it connected").0)
    }

    fn poll_until(clients: &mut Clients, frames: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut seen, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(10));
        while seen.len() < frames {
            assert!(Instant::now() < deadline, "{} frames of {frames} came", seen.len());
            clients.poll(Duration::from_millis(20), |_, frame| {
                seen.push(frame.payload.to_vec());
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn frames_split_over_packets_are_put_together_and_pings_answered() {
        let (mut clients, mut server) = pair(Transport::WebSocket);
        server.set_nodelay(true).expect("a TCP option");
        let text = WebSocketFrame::new(Opcode::Text, &[b'x'; 200]);
        let bytes = [text.bytes(), WebSocketFrame::new(Opcode::Ping, b"42").bytes(), text.bytes()].concat();
        let server = std::thread::spawn(move || {
            bytes.chunks(7).for_each(|piece| server.write_all(piece).expect("the swarm reads"));
            let mut pong = [0; 8];
            server.read_exact(&mut pong).expect("a pong");
            pong
        });
        assert_eq!(poll_until(&mut clients, 2).expect("no failure"), vec![vec![b'x'; 200]; 2]);
        assert_eq!(server.join().expect("no panic")[..], client_frame(PONG, b"42"));
    }

    #[test]
    fn events_split_over_packets_are_put_together_and_comments_ignored() {
        let (mut clients, mut server) = pair(Transport::EventStream);
        server.set_nodelay(true).expect("a TCP option");
        let stream = b"id: 1\ndata: first\n\n:\n\nid: 2\n\nevent: gap\ndata: {\"type\":\"gap\"}\n\ndata: last\n\n";
        let server = std::thread::spawn(move || {
            stream.chunks(7).for_each(|piece| server.write_all(piece).expect("the client reads"));
            server
        });
        let expected = [&b"first"[..], br#"{"type":"gap"}"#, b"last"];
        assert_eq!(poll_until(&mut clients, 3).expect("no failure"), expected);
        drop(server.join().expect("no panic"));
        let failure = poll_until(&mut clients, 1).expect_err("the stream has ended");
        assert!(failure.to_string().contains("hung up"), "{failure}");
    }

    #[test]
    fn a_message_in_a_named_event_fails_the_run() {
        for name in ["gap", "tick"] {
            let (mut clients, mut server) = pair(Transport::EventStream);
            write!(server, "event: {name}\ndata: {{\"type\":\"tick\"}}\n\n").expect("the client reads");
            let failure = poll_until(&mut clients, 1).expect_err("a browser does not take it for a message");
            assert!(failure.to_string().contains("broken frame header or event"), "{failure}");
        }
    }

    #[test]
    fn a_close_and_a_hang_up_fail_the_run() {
        let (mut clients, mut server) = pair(Transport::WebSocket);
        server.write_all(WebSocketFrame::new(Opcode::Close, b"\x0f\xa1slow").bytes()).expect("the swarm reads");
        let failure = poll_until(&mut clients, 1).expect_err("a close is no frame to count");
        assert!(failure.to_string().contains("4001 slow"), "{failure}");

        let (mut clients, server) = pair(Transport::WebSocket);
        drop(server);
        let failure = poll_until(&mut clients, 1).expect_err("nobody is left to deliver");
        assert!(failure.to_string().contains("hung up"), "{failure}");
    }
}
