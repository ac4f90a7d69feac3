//! Our own RESP3 connection for pub/sub: one socket, read by whoever awaits the broker.
//!
//! No task and no channel stand between the socket and the caller: what is read lies in one buffer, and messages
//! are slices of it. Changes of subscription are gathered and written as few commands as possible.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keyspace::Keyspace;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;
use wire::Scope;

use super::resp::{BadResp, Decoder, Heard};

/// Room kept for one read, in bytes. A burst of small messages is then a few hundred per system call.
const READ_BYTES: usize = 64 * 1024;
/// Most channels one SUBSCRIBE names: some 30 KiB of command, so that Redis serves others in between.
const CHANNELS_PER_COMMAND_MAX: usize = 512;
/// The kernel gives up a connection whose peer has vanished, without a word, after about this long.
const DEAD_PEER: Duration = Duration::from_secs(10);

/// Why a subscriber is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error("the subscriber's connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Resp(#[from] BadResp),
    #[error("Redis refused a subscription: {0}")]
    Refused(String),
    #[error("Redis ended a subscription nobody gave up")]
    Unasked,
}

/// A change of subscription that has not been written.
#[derive(Debug)]
struct Change {
    scope: Scope,
    wanted: bool,
}

/// What came in, after bookkeeping.
#[derive(Debug)]
pub(super) enum News {
    Message { channel: Bytes, payload: Bytes },
    Subscribed(Scope),
}

#[derive(Debug)]
pub(super) struct Subscriber {
    stream: TcpStream,
    decoder: Decoder,
    /// Encoded and not yet written. Bounded by the scopes the router wants.
    out: BytesMut,
    changes: Vec<Change>,
    /// Scopes whose confirmation is on its way, in the order asked.
    confirming: VecDeque<Scope>,
    /// How many confirmations of UNSUBSCRIBE are on their way.
    leaving: usize,
}

/// Opens a socket that sends at once and notices a vanished peer.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let half = DEAD_PEER / 2;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(half).with_interval(half / 5).with_retries(5))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    Ok(stream)
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            out: BytesMut::new(),
            changes: Vec::new(),
            confirming: VecDeque::new(),
            leaving: 0,
        }
    }

    /// Sends one command and waits for one thing to be heard: for the beginning, before anything is subscribed.
    pub(super) async fn ask(&mut self, args: &[&str]) -> Result<Heard, SubscriberError> {
        encode(&mut self.out, args.len(), args.iter().copied());
        self.hear().await
    }

    /// Waits for the next thing heard, whatever it is.
    pub(super) async fn hear(&mut self) -> Result<Heard, SubscriberError> {
        loop {
            if let Some(heard) = self.decoder.next()? {
                return Ok(heard);
            }
            self.flush()?;
            self.ready().await?;
            self.fill()?;
        }
    }

    pub(super) fn subscribe(&mut self, scope: Scope) {
        self.changes.push(Change { scope, wanted: true });
    }

    pub(super) fn unsubscribe(&mut self, scope: Scope) {
        self.changes.push(Change { scope, wanted: false });
    }

    /// Writes what was asked for since the last time, as much as the socket takes.
    pub(super) fn send_changes(&mut self, keyspace: &Keyspace) -> Result<(), SubscriberError> {
        if !self.changes.is_empty() {
            self.encode_changes(keyspace);
        }
        if self.out.is_empty() { Ok(()) } else { self.flush() }
    }

    /// What lies in the buffer. Nothing means: read first.
    pub(super) fn next(&mut self) -> Result<Option<News>, SubscriberError> {
        loop {
            match self.decoder.next()? {
                None => return Ok(None),
                Some(Heard::Subscribed { .. }) => {
                    // Redis confirms in the order of the commands.
                    let scope = self.confirming.pop_front().ok_or(SubscriberError::Unasked)?;
                    return Ok(Some(News::Subscribed(scope)));
                }
                Some(Heard::Unsubscribed { .. }) => {
                    self.leaving = self.leaving.checked_sub(1).ok_or(SubscriberError::Unasked)?;
                }
                Some(Heard::Refused(text)) => return Err(SubscriberError::Refused(text)),
                Some(Heard::Message { channel, payload }) => return Ok(Some(News::Message { channel, payload })),
                // Nothing else is asked for; what a newer Redis may push besides is none of our business.
                Some(Heard::Other(_)) => {}
            }
        }
    }

    /// Reads once without waiting; true when something came.
    pub(super) fn fill(&mut self) -> Result<bool, SubscriberError> {
        // Reserving is free while there is room. Without, it takes the old block back when nobody holds a slice
        // of it any more, and a new one otherwise.
        if self.decoder.buffer.capacity() - self.decoder.buffer.len() < READ_BYTES / 8 {
            self.decoder.buffer.reserve(READ_BYTES);
        }
        match self.stream.try_read_buf(&mut self.decoder.buffer) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed it").into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until there is something to read, or room for what is still to be written.
    pub(super) async fn ready(&self) -> Result<(), SubscriberError> {
        let interest = if self.out.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        self.stream.ready(interest).await?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SubscriberError> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => drop(self.out.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Neighbours of one kind become one command; their order against the other kind stays.
    fn encode_changes(&mut self, keyspace: &Keyspace) {
        let runs = self.changes.chunk_by(|a, b| a.wanted == b.wanted);
        for run in runs.flat_map(|run| run.chunks(CHANNELS_PER_COMMAND_MAX)) {
            let command = if run[0].wanted { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
            let channels = run.iter().map(|change| keyspace.channel(&change.scope));
            encode(&mut self.out, 1 + run.len(), std::iter::once(command.to_owned()).chain(channels));
        }
        for Change { scope, wanted } in self.changes.drain(..) {
            if wanted {
                self.confirming.push_back(scope);
            } else {
                self.leaving += 1;
            }
        }
    }
}

/// Writes a command of `count` words.
fn encode(out: &mut BytesMut, count: usize, words: impl Iterator<Item: AsRef<str>>) {
    out.extend_from_slice(format!("*{count}\r\n").as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
