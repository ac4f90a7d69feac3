//! Event streams through HAProxy: a page that reads a stream, and what it receives while instances end.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::haproxy::server_cookie;

use super::{Trial, expect, passed, token};
use crate::failure::Failure;
use crate::http;

/// Longer than the time between two pings of a gateway (30 s).
const LINE_WITHIN: Duration = Duration::from_secs(45);
/// The value of `timeout server` in the shipped file.
const TIMEOUT_SERVER: Duration = Duration::from_secs(5);
/// The `retry` range in the shipped file for the reply when no gateway is available.
const NOBODY_RETRY: Range<Duration> = Duration::from_secs(3)..Duration::from_secs(6);
/// A page that reconnects makes at most this many attempts.
const ATTEMPTS_MAX: usize = 20;

/// The result of one attempt, as the page sees it.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// An instance with this name served the stream.
    Served(String),
    Refused,
    /// The stream ended without any event.
    Silent,
}

/// A browser's `EventSource`: it keeps its cookies and the id of the last event, and reconnects when its stream ends.
struct Page {
    entrance: SocketAddr,
    authorization: String,
    path: String,
    cookies: BTreeMap<String, String>,
    last_event_id: String,
    retry: Duration,
    stream: BufReader<TcpStream>,
    attempts: Vec<Attempt>,
}

/// An event or a comment of a stream.
enum Part {
    Event { name: String, data: Value },
    Comment,
}

impl Trial {
    /// Opens a page on the gateway with this number, chosen by HAProxy's cookie.
    fn page(&self, number: usize, user: &str, channel: &str) -> Result<Page, Failure> {
        self.page_with(BTreeMap::from([("tidegate_server".to_owned(), server_cookie(number))]), user, channel)
    }

    fn page_with(&self, cookies: BTreeMap<String, String>, user: &str, channel: &str) -> Result<Page, Failure> {
        let authorization = format!("Authorization: Bearer {}\r\n", token(&self.fleet, user)?);
        let entrance = self.fleet.entrance;
        let path = format!("/sse?channels={channel}");
        let opening = Failure::during("opening an event stream");
        let stream = TcpStream::connect(entrance).map_err(opening)?;
        let mut page = Page {
            entrance,
            authorization,
            path,
            cookies,
            last_event_id: String::new(),
            retry: Duration::ZERO,
            stream: BufReader::new(stream),
            attempts: Vec::new(),
        };
        page.connect()?;
        Ok(page)
    }

    /// Reads from the last event to the next ping, and then a message.
    pub(super) fn keeps_a_silent_event_stream(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:silent:ops";
        let mut page = self.page(1, "alice", CHANNEL)?;
        page.event("subscribed")?;
        let began = Instant::now();
        page.until("a ping", |part| matches!(part, Part::Comment))?;
        let silence = began.elapsed();
        expect(silence > TIMEOUT_SERVER, || format!("the ping came after {silence:?}, too early to prove anything"))?;
        self.client(2, "publisher", None)?.publish(CHANNEL, 0..1)?;
        page.numbers(0..1)?;
        expect(page.attempts == [Attempt::Served("gateway1".into())], || format!("it went {:?}", page.attempts))?;
        passed(&format!("an event stream outlived {:.0} s of silence", silence.as_secs_f64()))
    }

    /// The instance of a page drains, and the next instance is killed.
    pub(super) fn moves_an_event_stream(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:moved:ops";
        let mut page = self.page(3, "moved", CHANNEL)?;
        page.event("subscribed")?;
        let mut visitor = self.page(3, "visitor", CHANNEL)?;
        visitor.event("subscribed")?;
        let mut publisher = self.client(1, "publisher", None)?;
        publisher.publish(CHANNEL, 0..5)?;
        page.numbers(0..5)?;
        // This client does not answer a close, so that the drain lasts.
        let held = self.client(3, "held", None)?;

        self.signal("-TERM", 3)?;
        self.seen(3, "takes no new clients", |server| server.status.starts_with("NOLB"))?;
        // Each cookie alone still routes to the draining instance, once.
        for name in ["tidegate_server", "tidegate_session"] {
            let cookie = if name == "tidegate_server" { server_cookie(3) } else { visitor.cookie(name)? };
            let mut again = self.page_with(BTreeMap::from([(name.to_owned(), cookie)]), "visitor", CHANNEL)?;
            again.event("subscribed")?;
            let [Attempt::Refused, Attempt::Served(_)] = &*again.attempts else {
                return Err(Failure::new(format!("{name} of a draining instance: {:?}", again.attempts)));
            };
        }
        page.event("reconnect")?;
        publisher.publish(CHANNEL, 5..10)?;
        page.numbers(5..10)?;
        let reached = page.instance()?;
        expect(reached != 3, || "the drain has moved nobody".into())?;
        drop(held);
        self.fleet.start_again(3)?;

        let mut publisher = self.client(3, "publisher", None)?;
        publisher.publish(CHANNEL, 10..15)?;
        page.numbers(10..15)?;
        let before = page.attempts.len();
        self.signal("-KILL", reached)?;
        publisher.publish(CHANNEL, 15..20)?;
        page.numbers(15..20)?;
        expect(page.attempts.len() > before && page.instance()? != reached, || "a killed instance serves".into())?;
        self.fleet.start_again(reached)?;
        passed("an event stream went on elsewhere when its instance drained, and when its instance was killed")
    }

    /// Gateway1 is the last instance, and it is down for a while. A browser reconnects only if it gets a stream to
    /// read.
    pub(super) fn brings_an_event_stream_back_when_no_instance_was_there(&mut self) -> Result<(), Failure> {
        let mut page = self.page(1, "patient", "collection:patient:ops")?;
        page.event("subscribed")?;
        self.signal("-KILL", 1)?;
        self.seen(1, "is down", |server| server.status == "DOWN")?;
        page.connect()?;
        let end = page.read().map_err(Failure::during("reading a stream of nobody"))?;
        expect(end.is_none() && NOBODY_RETRY.contains(&page.retry), || {
            format!("it comes back after {:?}", page.retry)
        })?;
        // The other gateways ended earlier. The start must not report these exits.
        self.fleet.exited();
        self.fleet.start_again(1)?;
        page.event("subscribed")?;
        let served = || Attempt::Served("gateway1".into());
        expect(page.attempts == [served(), Attempt::Silent, served()], || format!("it went {:?}", page.attempts))?;
        passed("an event stream came back by itself when for a while no instance was there")
    }
}

impl Page {
    fn connect(&mut self) -> Result<(), Failure> {
        expect(self.attempts.len() < ATTEMPTS_MAX, || format!("a page finds no instance: {:?}", self.attempts))?;
        thread::sleep(self.retry);
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{}", self.path, self.entrance, self.authorization);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        if !self.last_event_id.is_empty() {
            request += &format!("Last-Event-ID: {}\r\n", self.last_event_id);
        }
        let head = self.ask(&request).map_err(Failure::during("asking for an event stream"))?;
        let status = http::status(&head).map_err(Failure::during("asking for an event stream"))?;
        let content_type = http::headers(&head, "content-type").next();
        // After any other reply a browser does not reconnect.
        expect(status == 200 && content_type == Some("text/event-stream"), || format!("not a stream: {head}"))?;
        for cookie in http::headers(&head, "set-cookie") {
            let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) else { continue };
            match cookie.contains("Max-Age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        self.attempts.push(Attempt::Silent);
        Ok(())
    }

    fn ask(&mut self, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.entrance)?;
        stream.set_read_timeout(Some(LINE_WITHIN))?;
        stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes())?;
        self.stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head)
    }

    /// The next part of this stream, or `None` at its end.
    fn read(&mut self) -> io::Result<Option<Part>> {
        let (mut name, mut data, mut id) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                read => read?,
            };
            let line = line.trim_end();
            match line.split_once(": ").unwrap_or((line, "")) {
                ("", _) => {
                    // An event without data is not dispatched, but its id counts.
                    self.last_event_id = id.take().unwrap_or(std::mem::take(&mut self.last_event_id));
                    if !data.is_empty() {
                        return Ok(Some(Part::Event { name, data: serde_json::from_str(&data)? }));
                    }
                }
                (":", _) => return Ok(Some(Part::Comment)),
                ("event", value) => value.clone_into(&mut name),
                ("data", value) => data += value,
                ("id", value) => id = Some(value.to_owned()),
                ("retry", value) => self.retry = value.parse().map_or(self.retry, Duration::from_millis),
                _ => {}
            }
        }
    }

    /// Returns the next matching part, of this stream or of later streams.
    fn until(&mut self, what: &str, is_meant: impl Fn(&Part) -> bool) -> Result<Part, Failure> {
        loop {
            let part = self.read().map_err(Failure::during(format_args!("waiting for {what}")))?;
            let Some(part) = part else {
                self.connect()?;
                continue;
            };
            let attempt = match &part {
                Part::Event { name, data } if name == "welcome" => {
                    Some(Attempt::Served(data["payload"]["instance"].as_str().unwrap_or_default().to_owned()))
                }
                Part::Event { name, .. } if name == "error" => Some(Attempt::Refused),
                Part::Event { .. } | Part::Comment => None,
            };
            if let (Some(attempt), Some(last)) = (attempt, self.attempts.last_mut()) {
                *last = attempt;
            }
            if is_meant(&part) {
                return Ok(part);
            }
        }
    }

    /// Reads up to the next event with this name.
    fn event(&mut self, wanted: &str) -> Result<(), Failure> {
        let is_meant = |part: &Part| matches!(part, Part::Event { name, .. } if name == wanted);
        self.until(&format!("`{wanted}`"), is_meant).map(drop)
    }

    /// Reads these numbers in order. No other message or gap may come before the last one.
    fn numbers(&mut self, numbers: Range<u64>) -> Result<(), Failure> {
        for n in numbers {
            let is_meant = |part: &Part| matches!(part, Part::Event { name, .. } if name.is_empty() || name == "gap");
            let part = self.until(&format!("message {n}"), is_meant)?;
            let Part::Event { data, .. } = part else { continue };
            expect(data["type"] == "n" && data["payload"] == n, || format!("not {n} but {data}"))?;
        }
        Ok(())
    }

    /// The number of the instance that serves the page now.
    fn instance(&self) -> Result<usize, Failure> {
        let Some(Attempt::Served(name)) = self.attempts.last() else {
            return Err(Failure::new(format!("no instance serves it: {:?}", self.attempts)));
        };
        let number = name.strip_prefix("gateway").and_then(|number| number.parse().ok());
        number.ok_or_else(|| Failure::new(format!("an instance named {name}")))
    }

    fn cookie(&self, name: &str) -> Result<String, Failure> {
        let value = self.cookies.get(name).cloned();
        value.ok_or_else(|| Failure::new(format!("no cookie {name}: {:?}", self.cookies)))
    }
}
