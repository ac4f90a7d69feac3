//! A client of an event stream that behaves like a browser: it sends back the id of the last complete event.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use history_checker::{Event, StreamEvent};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::ending::Ending;
use super::pace::Pace;
use super::{CONNECT_TIME_MAX, Client, Keeps};
use crate::entrance::{Jar, connect, cookie};
use crate::token;

/// Number of bytes per read.
const READ_BYTES: usize = 4 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The only status after which a browser reads events and reconnects when they end.
const OK: u16 = 200;

/// The status and the cookies of a response.
struct Head {
    status: u16,
    cookies: Jar,
}

/// The body of a response, event by event.
pub(super) struct EventStream {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The next step on an event stream.
enum Turn {
    Received(Option<String>),
    /// The client reads on after a pause.
    ReadsOn,
    Leaves,
}

impl Client {
    /// Requests an event stream and reads it until it ends or the client leaves. Returns `Some` if the client left.
    pub(super) async fn listen(&mut self, number: u64) -> Option<()> {
        let (wanted, cookie) = self.choose();
        self.last_instance = Some(wanted);
        if self.behaviour.keeps == Keeps::Nothing {
            self.last_event_id = None;
        }
        let (address, cookies) = self.clients.entrance.address(wanted, cookie, &self.jar);
        let target = format!("/sse?channels={}", self.held.keys().cloned().collect::<Vec<_>>().join(","));
        let (client, instance) = (self.name.clone(), self.clients.entrance.name(wanted).to_owned());
        let (transport, reads_slowly) = (self.transport, self.behaviour.reads_slowly);
        self.clients.recorder.record(Event::Opened { client, connection: number, instance, reads_slowly, transport });
        let last_event_id = self.last_event_id.clone();
        self.clients.recorder.record(Event::Requested { connection: number, target: target.clone(), last_event_id });
        let request = self.request(address, &target, &cookies);
        let requesting = EventStream::request(address, &request, reads_slowly);
        let (head, stream) = match timeout(CONNECT_TIME_MAX, requesting).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                self.close(number, &format!("not answered: {error}"), false, None);
                return None;
            }
            Err(_) => {
                self.close(number, "not answered in time", false, None);
                return None;
            }
        };
        self.jar.extend(head.cookies);
        if head.status != OK {
            self.clients.recorder.record(Event::Refused { connection: number, status: head.status });
            self.close(number, &format!("answered by {}", head.status), false, None);
            return None;
        }
        self.read(number, stream).await
    }

    fn request(&self, address: SocketAddr, target: &str, cookies: &str) -> String {
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n",
            token::sign(&self.name)
        );
        if let Some(id) = &self.last_event_id {
            request += &format!("Last-Event-ID: {id}\r\n");
        }
        if !cookies.is_empty() {
            request += &format!("Cookie: {cookies}\r\n");
        }
        request + "\r\n"
    }

    async fn read(&mut self, number: u64, mut stream: EventStream) -> Option<()> {
        let (shortest, longest) = self.behaviour.stay();
        let until = Instant::now() + self.random.between(shortest, longest);
        let clients = Arc::clone(&self.clients);
        let is_calm = || *clients.is_calm.borrow();
        let mut pace = Pace::new(self.behaviour.reads_slowly);
        loop {
            let pause = pace.speaks_at();
            let turn = tokio::select! {
                text = stream.next(), if pause.is_none() => Turn::Received(text),
                () = sleep_until(pause.unwrap_or(until)), if pause.is_some() => Turn::ReadsOn,
                () = sleep_until(until), if self.behaviour.leaves && !is_calm() => Turn::Leaves,
            };
            match turn {
                Turn::Received(Some(text)) => {
                    self.event(number, &text);
                    pace.has_read(is_calm(), &mut self.random);
                }
                Turn::Received(None) => break,
                Turn::ReadsOn => pace.has_spoken(is_calm()),
                Turn::Leaves => {
                    let ending = Ending::draw(&mut self.random);
                    self.close(number, &format!("it wished to leave: {ending:?}"), true, None);
                    ending.end_stream(stream.stream);
                    return Some(());
                }
            }
        }
        // The log has the incomplete event at the end. A browser does not dispatch it.
        if !stream.received.is_empty() {
            let text = String::from_utf8_lossy(&stream.received).into_owned();
            self.clients.recorder.record(Event::Received { connection: number, text });
        }
        self.close(number, "ended", false, None);
        None
    }

    fn event(&mut self, number: u64, text: &str) {
        self.clients.recorder.record(Event::Received { connection: number, text: text.to_owned() });
        let Some(StreamEvent { data, id, .. }) = StreamEvent::read(text) else { return };
        self.last_event_id = id.or_else(|| self.last_event_id.take());
        let Some(data) = data else { return };
        self.take(number, &data);
        if let Ok(frame) = serde_json::from_str::<Value>(&data)
            && let Some(index) =
                frame["payload"]["instance"].as_str().and_then(|name| self.clients.entrance.index(name))
        {
            self.last_instance = Some(index);
        }
    }
}

impl EventStream {
    async fn request(address: SocketAddr, request: &str, reads_slowly: bool) -> io::Result<(Head, Self)> {
        let mut stream = connect(address, reads_slowly).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::new();
        let end = loop {
            if let Some(end) = find(&received, b"\r\n\r\n") {
                break end;
            }
            if received.len() > HEAD_BYTES_MAX || read(&mut stream, &mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let body = received.split_off(end);
        let head = Head::read(&String::from_utf8_lossy(&received)).ok_or(io::ErrorKind::InvalidData)?;
        Ok((head, Self { stream, received: body }))
    }

    /// The lines of the next event that is more than comments, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some(end) = find(&self.received, b"\n\n") {
                let rest = self.received.split_off(end);
                let lines = std::mem::replace(&mut self.received, rest);
                let text = String::from_utf8_lossy(&lines).into_owned();
                if text.lines().any(|line| !line.is_empty() && !line.starts_with(':')) {
                    return Some(text);
                }
            }
            // The future can be dropped without loss, because bytes are stored as soon as they are read.
            if read(&mut self.stream, &mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

impl Head {
    /// Parses the head of a response whose body ends with its connection or is not needed.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let fields =
            lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_lowercase(), value.trim()));
        let fields: Vec<_> = fields.collect();
        if fields.iter().any(|(name, _)| name == "transfer-encoding") {
            return None;
        }
        let set = fields.iter().filter(|(name, _)| name == "set-cookie");
        Some(Self { status, cookies: set.filter_map(|(_, value)| cookie(value)).collect() })
    }
}

async fn read(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; READ_BYTES];
    let n = stream.read(&mut bytes).await?;
    received.extend_from_slice(&bytes[..n]);
    Ok(n)
}

/// The offset of the text after this separator.
fn find(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    bytes.windows(separator.len()).position(|window| window == separator).map(|at| at + separator.len())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_head_has_a_status_and_cookies() {
        let head = Head::read(
            "HTTP/1.1 200 OK\r\nSet-Cookie: tidegate_server=g2; path=/\r\nset-cookie: tidegate_session=ab\r\n\r\n",
        )
        .unwrap();
        assert_eq!(head.status, OK);
        assert_eq!(
            head.cookies,
            [("tidegate_server", "g2"), ("tidegate_session", "ab")].map(|(a, b)| (a.into(), b.into())).into()
        );
        assert!(Head::read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_none());
    }

    #[tokio::test]
    async fn events_are_cut_at_blank_lines_and_comments_are_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            socket.read_exact(&mut [0; 8]).await.unwrap();
            for byte in b"HTTP/1.1 200 OK\r\n\r\n:\n\nid: a\ndata: 1\n\n:\n\ndata: 2\n\nid: b\ndata" {
                socket.write_all(&[*byte]).await.unwrap();
            }
        });
        let (head, mut stream) = EventStream::request(address, "GET\r\n\r\n\n", false).await.unwrap();
        assert_eq!(head.status, OK);
        assert_eq!(stream.next().await.as_deref(), Some("id: a\ndata: 1\n\n"));
        assert_eq!(stream.next().await.as_deref(), Some("data: 2\n\n"));
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.received, b"id: b\ndata");
        server.await.unwrap();
    }
}
