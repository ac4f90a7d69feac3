//! A simulated client: its socket, the frames that it reads, and its subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::Position;

use super::event_stream::EventStreamClient;
use super::restoring::Restoring;
use super::schedule::{InstanceRun, Pipe, Wire};
use super::view::{GapFrame, Subscribed, View};
use crate::shard::members::Slot;

/// Bytes that a socket accepts before the client has read any of them.
const SOCKET_BYTES_MAX: usize = 2_048;

/// How a client receives, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    /// It has a WebSocket and stores positions.
    StoresPositions,
    /// It has a WebSocket and keeps its session id.
    Restores,
    /// It has an event stream and keeps the last id.
    Streams,
}

pub(super) struct Client {
    pub(super) user: String,
    pub(super) socket: Option<Socket>,
    /// Channels that the client wants whenever it is connected, with the last position it saw.
    pub(super) wanted: BTreeMap<String, Option<Position>>,
    /// The client's view of each subscription of this connection, by channel.
    pub(super) views: BTreeMap<String, View>,
    /// Subscriptions that are not answered yet.
    pub(super) asked: Vec<PendingSubscribe>,
    /// Whether the next position that the client sends is forged.
    pub(super) forges: bool,
    /// Number of requests; it makes their ids unique.
    pub(super) questions: u64,
    /// Whether the client is about to connect.
    pub(super) is_connecting: bool,
    /// Set for a client of event streams.
    pub(super) stream: Option<EventStreamClient>,
    /// Set for a client that keeps nothing but its session id.
    pub(super) restoring: Option<Restoring>,
    /// The id of the request for its session that is not answered yet.
    pub(super) asking: Option<String>,
}

#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) given: Option<Position>,
    pub(super) forged: bool,
    /// Set for a subscription that the gateway restores: the client's earlier view of it, if any, and whether
    /// messages may come again.
    pub(super) restored: Option<(Option<Box<View>>, bool)>,
}

/// A connection to one shard of an instance.
pub(super) struct Socket {
    pub(super) wire: Wire,
    pub(super) instance_run: InstanceRun,
    /// Index of the shard and slot of the connection, once the instance has accepted it.
    pub(super) shard_slot: Option<(usize, Slot)>,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// Bytes that the instance has written and the client has not read.
    pub(super) unread: usize,
    /// Bytes that arrived while the client does not read; `None` while it reads.
    pub(super) waiting: Option<Vec<u8>>,
    /// The beginning of an incomplete frame.
    pub(super) rest: Vec<u8>,
    pub(super) since_ms: u64,
    /// Numbers of the messages without a position that have arrived.
    pub(super) locals: BTreeSet<u64>,
}

impl Socket {
    /// How many of `len` bytes the socket accepts now.
    pub(super) fn room(&self, len: usize) -> usize {
        len.min(SOCKET_BYTES_MAX.saturating_sub(self.unread))
    }
}

/// The content of one WebSocket frame.
pub(super) enum Frame {
    Text(Value),
    Ping(Vec<u8>),
    Close(u16),
}

/// Removes one complete frame from the beginning of `bytes`.
pub(super) fn take_frame(bytes: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    let [first, len, rest @ ..] = &bytes[..] else { return Ok(None) };
    let (header, len) = match (len, rest) {
        (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize),
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (126 | 127, _) => return Ok(None),
        (len, _) => (2, usize::from(*len)),
    };
    let Some(payload) = bytes.get(header..header + len) else { return Ok(None) };
    let frame = match first {
        0x81 => Frame::Text(serde_json::from_slice(payload).map_err(|error| format!("{error} in a frame"))?),
        0x89 => Frame::Ping(payload.to_vec()),
        0x88 => Frame::Close(u16::from_be_bytes([payload[0], payload[1]])),
        other => return Err(format!("a frame of kind {other:#x}")),
    };
    bytes.drain(..header + len);
    Ok(Some(frame))
}

/// Reads a position from a field, if there is one.
pub(super) fn position(value: &Value) -> Option<Position> {
    value.as_str().map(|text| text.parse().expect("the gateway writes positions"))
}

pub(super) fn read_gap(payload: &Value) -> GapFrame {
    GapFrame {
        after: position(&payload["after"]),
        upto: position(&payload["upto"]),
        reason: payload["reason"].as_str().unwrap_or_default().to_owned(),
        certain: payload["certain"].as_bool().unwrap_or_default(),
    }
}

pub(super) fn read_subscribed(frame: &Value) -> Subscribed {
    let flag = |name: &str| frame["payload"][name].as_bool().unwrap_or_default();
    Subscribed { position: position(&frame["position"]), resumed: flag("resumed"), degraded: flag("degraded") }
}

impl Client {
    pub(super) fn new(index: usize, wanted: BTreeMap<String, Option<Position>>, kind: ClientKind) -> Self {
        Self {
            user: format!("u{index}"),
            socket: None,
            wanted,
            views: BTreeMap::new(),
            asked: Vec::new(),
            forges: false,
            questions: 0,
            is_connecting: false,
            stream: (kind == ClientKind::Streams).then(EventStreamClient::default),
            restoring: (kind == ClientKind::Restores).then(Restoring::default),
            asking: None,
        }
    }

    pub(super) fn next_id(&mut self) -> String {
        self.questions += 1;
        format!("q{}", self.questions)
    }

    pub(super) fn is_on(&self, wire: Wire) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.wire == wire)
    }

    /// Ends the connection. The last position of each channel is what the client sends next time.
    pub(super) fn forget_connection(&mut self) -> Option<Socket> {
        let views = std::mem::take(&mut self.views);
        if let Some(restoring) = &mut self.restoring {
            restoring.keep(views, std::mem::take(&mut self.asked));
            self.asking = None;
            return self.socket.take();
        }
        for (channel, view) in views {
            if let Some(wanted) = self.wanted.get_mut(&channel) {
                *wanted = view.stored.or(*wanted);
            }
        }
        self.asked.clear();
        self.socket.take()
    }
}
