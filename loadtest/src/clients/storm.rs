//! Many clients that connect at once. A WebSocket client connects, upgrades with a token, subscribes, and receives
//! `subscribed`. A client of an event stream names its channels in its only request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketType};
use test_support::web_socket::upgrade_request;

use super::subscribe::subscribe;
use super::{Clients, EVENTS_MAX, Transport, wait};
use crate::failure::Failure;
use crate::frame_walker::CLOSE;
use crate::latencies::Latencies;
use crate::tick::kind_of;

/// The most handshakes at one time: enough to keep a server busy, and below any listen backlog.
const IN_FLIGHT_MAX: usize = 64;
/// A source address has about 28,000 ports. Each address is used for this many connections.
const PER_SOURCE_ADDRESS: usize = 8_000;
/// The longest time without progress of any handshake.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The token and the channels of one client.
#[derive(Debug)]
pub(crate) struct ConnectPlan {
    /// The token that is sent as `Authorization: Bearer`.
    pub(crate) token: String,
    /// The channels to subscribe to.
    pub(crate) channels: Vec<String>,
}

/// The result of a storm.
#[derive(Debug)]
pub(crate) struct Storm {
    /// The times from `connect` to `subscribed`.
    pub(crate) latencies: Latencies,
    /// The time from the first `connect` to the last `subscribed`.
    pub(crate) duration: Duration,
}

/// A client that is connecting.
#[derive(Debug)]
struct Arrival {
    /// Its index in the list of plans.
    number: usize,
    socket: TcpStream,
    transport: Transport,
    channels: Vec<String>,
    phase: Phase,
    /// Number of channels that are not subscribed yet.
    pending: usize,
    /// Bytes that were read but not parsed yet.
    buffer: Vec<u8>,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The request has been sent, and `101` or `200` has not been received.
    Requesting,
    /// `subscribe` has been sent if it is needed, and `subscribed` has not been received for every channel.
    Subscribing,
    /// All channels are subscribed.
    Open,
}

/// Connects all `visits` to `addr`, at most [`IN_FLIGHT_MAX`] at a time. Leaves the open connections in `clients` in
/// the order of `visits`, whichever connected first.
pub(crate) fn storm(
    clients: &mut Clients,
    addr: SocketAddr,
    visits: impl Iterator<Item = ConnectPlan>,
) -> Result<Storm, Failure> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Failure::io("epoll_create"))?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut slots: Vec<Option<Arrival>> = std::iter::repeat_with(|| None).take(IN_FLIGHT_MAX).collect();
    let mut free: Vec<usize> = (0..slots.len()).collect();
    let mut visits = visits.enumerate();
    let mut opened: Vec<Arrival> = Vec::new();
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let mut last_progress = start;
    loop {
        while let Some(slot) = free.pop() {
            let Some((number, plan)) = visits.next() else {
                // The storm ends when all slots are free again. This slot is free already.
                free.push(slot);
                break;
            };
            let arrival = Arrival::begin(clients.transport, addr, number, plan)?;
            let data = epoll::EventData::new_u64(slot as u64);
            epoll::add(&epoll, &arrival.socket, data, EventFlags::IN).map_err(Failure::io("epoll_ctl"))?;
            slots[slot] = Some(arrival);
        }
        if free.len() == slots.len() {
            opened.sort_by_key(|arrival| arrival.number);
            opened.into_iter().try_for_each(|arrival| clients.adopt(arrival.socket, arrival.buffer))?;
            return Ok(Storm { latencies, duration: last_progress - start });
        }
        wait(&epoll, &mut events, Duration::from_millis(100))?;
        for event in &events {
            let slot = event.data.u64() as usize;
            let arrival = slots[slot].as_mut().expect("an event belongs to a slot in use");
            if arrival.advance()? != Phase::Open {
                continue;
            }
            let arrival = slots[slot].take().expect("looked at above");
            last_progress = Instant::now();
            latencies.record(arrival.since.elapsed());
            epoll::delete(&epoll, &arrival.socket).map_err(Failure::io("epoll_ctl"))?;
            opened.push(arrival);
            free.push(slot);
        }
        if last_progress.elapsed() > SILENCE_MAX {
            let what = format!("no connection was completed for {SILENCE_MAX:?}");
            return Err(Failure::Receiver { receiver: opened.len(), what });
        }
    }
}

impl Arrival {
    fn begin(transport: Transport, addr: SocketAddr, number: usize, plan: ConnectPlan) -> Result<Self, Failure> {
        let since = Instant::now();
        let mut socket =
            connect_from(source_address(number), addr).map_err(Failure::io(format!("connect {number}")))?;
        let ConnectPlan { token, channels } = plan;
        let token = format!("Authorization: Bearer {token}\r\n");
        let request = match transport {
            Transport::WebSocket => {
                upgrade_request(addr, &format!("Sec-WebSocket-Protocol: {}\r\n{token}", wire::SUBPROTOCOL))
            }
            Transport::EventStream => {
                format!("GET /sse?channels={} HTTP/1.1\r\nHost: {addr}\r\n{token}\r\n", channels.join(","))
            }
        };
        socket.write_all(request.as_bytes()).map_err(Failure::io(format!("request {number}")))?;
        socket.set_nonblocking(true).map_err(Failure::io("set_nonblocking"))?;
        let pending = channels.len();
        Ok(Self { number, socket, transport, channels, phase: Phase::Requesting, pending, buffer: Vec::new(), since })
    }

    /// Reads the received bytes and advances as far as possible.
    fn advance(&mut self) -> Result<Phase, Failure> {
        let receiver = self.number;
        let failed = |what: String| Failure::Receiver { receiver, what };
        let mut chunk = [0; 4096];
        match self.socket.read(&mut chunk) {
            Ok(0) => return Err(failed(format!("the server hung up while {:?}", self.phase))),
            Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(self.phase),
            Err(error) => return Err(failed(format!("read while {:?}: {error}", self.phase))),
        }
        if self.phase == Phase::Requesting {
            let Some(end) = response_end(&self.buffer) else { return Ok(self.phase) };
            let (status, frames) = match self.transport {
                Transport::WebSocket => {
                    ("HTTP/1.1 101 ", self.channels.iter().flat_map(|name| subscribe(name)).collect())
                }
                Transport::EventStream => ("HTTP/1.1 200 ", Vec::new()),
            };
            if !self.buffer.starts_with(status.as_bytes()) {
                return Err(failed(format!("not {status}: {}", String::from_utf8_lossy(&self.buffer))));
            }
            self.buffer.drain(..end);
            self.socket.write_all(&frames).map_err(|error| failed(format!("subscribe: {error}")))?;
            self.phase = Phase::Subscribing;
        }
        self.await_subscribed().map_err(failed)
    }

    fn await_subscribed(&mut self) -> Result<Phase, String> {
        let mut at = 0;
        while self.phase == Phase::Subscribing {
            let frame = self.transport.next_frame(&self.buffer[at..]);
            let Some(frame) = frame.map_err(|_| "a broken frame header or event".to_owned())? else { break };
            at += frame.bytes.len();
            if frame.opcode == CLOSE {
                return Err(format!("closed instead of subscribed: {:?}", frame.payload));
            }
            match kind_of(&frame.payload).as_deref() {
                Some("subscribed") => {
                    self.pending -= 1;
                    if self.pending == 0 {
                        self.phase = Phase::Open;
                    }
                }
                Some("error" | "degraded" | "gap" | "reconnect" | "bye") => {
                    return Err(format!("not subscribed: {}", String::from_utf8_lossy(&frame.payload)));
                }
                _ => {}
            }
        }
        self.buffer.drain(..at);
        self.buffer.shrink_to_fit();
        Ok(self.phase)
    }
}

fn response_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Connections come from 127.0.0.2, 127.0.0.3 and so on, so that no source address runs out of ports.
fn source_address(number: usize) -> SocketAddrV4 {
    let last = u8::try_from(2 + number / PER_SOURCE_ADDRESS).expect("fewer connections than 250 source addresses hold");
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0)
}

/// A blocking connect. On loopback it completes at once while the backlog has room.
fn connect_from(source: SocketAddrV4, addr: SocketAddr) -> std::io::Result<TcpStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, rustix::net::SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &source)?;
    rustix::net::connect(&socket, &addr)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use wire::{Opcode, ServerFrame, WebSocketFrame};

    /// Upgrades one client and answers its `subscribe` with `answer`, written in one piece.
    fn serve_one(answer: Vec<u8>) -> (SocketAddr, std::thread::JoinHandle<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("somebody connects");
            let mut request = Vec::new();
            while response_end(&request).is_none() {
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("a whole request");
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).expect("headers are ASCII");
            assert!(request.contains("Authorization: Bearer token\r\n"), "{request}");
            socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").expect("the client reads");
            let mut frame = vec![0; subscribe("user:u1").len()];
            socket.read_exact(&mut frame).expect("a subscribe frame");
            assert_eq!(frame, subscribe("user:u1"));
            socket.write_all(&answer).expect("the client reads");
            socket
        });
        (addr, server)
    }

    fn control(frame: &ServerFrame<'_>) -> WebSocketFrame {
        WebSocketFrame::build(Opcode::Text, 256, |out| frame.write_json(out))
    }

    fn plan() -> std::iter::Once<ConnectPlan> {
        std::iter::once(ConnectPlan { token: "token".into(), channels: vec!["user:u1".into()] })
    }

    /// The payload of the first frame that arrives.
    fn first_payload(clients: &mut Clients) -> Vec<u8> {
        let (mut seen, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(10));
        while seen.is_empty() && Instant::now() < deadline {
            let take = |_: usize, frame: crate::frame_walker::Frame<'_>| {
                seen.extend_from_slice(&frame.payload);
                Ok(())
            };
            clients.poll(Duration::from_millis(20), take).expect("no failure");
        }
        seen
    }

    #[test]
    fn what_follows_subscribed_in_the_same_packet_is_not_lost() {
        let subscribed = ServerFrame::Subscribed {
            channel: "user:u1".into(),
            position: None,
            resumed: false,
            degraded: false,
            correlation_id: None,
        };
        let first = WebSocketFrame::new(Opcode::Text, b"first");
        let answer =
            [control(&ServerFrame::Pong { correlation_id: None }).bytes(), control(&subscribed).bytes(), first.bytes()]
                .concat();
        // Half of the last frame arrives with the answer, the rest later.
        let cut = answer.len() - 3;
        let (addr, server) = serve_one(answer[..cut].to_vec());
        let mut clients = Clients::new(Transport::WebSocket).expect("an epoll");
        let storm = storm(&mut clients, addr, plan()).expect("subscribed");
        assert_eq!(clients.len(), 1);
        assert!(storm.latencies.longest_ms() > 0.0);
        let mut socket = server.join().expect("no panic");
        socket.write_all(&answer[cut..]).expect("the client reads");
        assert_eq!(first_payload(&mut clients), b"first");
    }

    #[test]
    fn an_event_stream_is_open_when_every_channel_is_subscribed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the client connects");
            let mut request = vec![0; 4096];
            let len = socket.read(&mut request).expect("a request");
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let subscribed = "event: subscribed\ndata: {\"type\":\"subscribed\"}\n\n";
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n:\n\n{subscribed}id: 1\n{subscribed}data: fi");
            for piece in answer.as_bytes().chunks(16) {
                socket.write_all(piece).expect("the client reads");
            }
            (request, socket)
        });
        let mut clients = Clients::new(Transport::EventStream).expect("an epoll");
        let channels = vec!["system".into(), "user:u1".into()];
        let plan = ConnectPlan { token: "token".into(), channels };
        storm(&mut clients, addr, std::iter::once(plan)).expect("subscribed");
        let (request, mut socket) = server.join().expect("no panic");
        socket.write_all(b"rst\n\n").expect("the client reads");
        assert!(request.starts_with("GET /sse?channels=system,user:u1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Authorization: Bearer token\r\n"), "{request}");
        assert_eq!(first_payload(&mut clients), b"first");
    }

    #[test]
    fn a_refusal_is_reported_in_the_gateways_words() {
        let refusal = control(&ServerFrame::Degraded { degraded: true });
        let (addr, server) = serve_one(refusal.bytes().to_vec());
        let mut clients = Clients::new(Transport::WebSocket).expect("an epoll");
        let failure = storm(&mut clients, addr, plan()).expect_err("degraded is not what is measured");
        assert!(failure.to_string().contains("degraded"), "{failure}");
        drop(server.join());
    }
}
