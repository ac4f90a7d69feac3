//! A client: a socket that takes bytes as it likes, the frames in them, and what it holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::Position;

use super::restoring::Restoring;
use super::schedule::{InstanceRun, Pipe, Wire};
use super::view::{GapFrame, Subscribed, View};
use crate::shard::members::Slot;

/// What a socket takes before the client has read any of it.
const SOCKET_BYTES_MAX: usize = 2_048;

pub(super) struct Client {
    pub(super) user: String,
    pub(super) socket: Option<Socket>,
    /// What it wants to hear whenever it is connected, with the last position it saw.
    pub(super) wanted: BTreeMap<String, Option<Position>>,
    /// By channel: what it holds on this connection.
    pub(super) views: BTreeMap<String, View>,
    /// Subscriptions without an answer: id, channel, the position given, and whether that was forged.
    pub(super) asked: Vec<PendingSubscribe>,
    /// The next position it gives is one that nobody gave it.
    pub(super) forges: bool,
    /// Numbers its questions.
    pub(super) questions: u64,
    /// It has been asked to connect and has not.
    pub(super) is_connecting: bool,
    /// It keeps nothing but the id of its session.
    pub(super) restoring: Option<Restoring>,
    /// It has asked what its session held, in this question, and was not told.
    pub(super) asking: Option<String>,
}

#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) given: Option<Position>,
    pub(super) forged: bool,
    /// It is brought back: what the client had of it, if anything, and whether that may come again.
    pub(super) restored: Option<(Option<Box<View>>, bool)>,
}

/// A connection to one shard of one instance.
pub(super) struct Socket {
    pub(super) wire: Wire,
    pub(super) instance_run: InstanceRun,
    /// Where the instance keeps it, once it has come there.
    pub(super) shard_slot: Option<(usize, Slot)>,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// Written by the instance and not read by the client.
    pub(super) unread: usize,
    /// What has come while the client reads nothing.
    pub(super) waiting: Option<Vec<u8>>,
    /// The beginning of a frame.
    pub(super) rest: Vec<u8>,
    pub(super) since_ms: u64,
    /// Messages without a position that have come.
    pub(super) locals: BTreeSet<u64>,
}

impl Socket {
    /// How much of `len` bytes it takes now.
    pub(super) fn room(&self, len: usize) -> usize {
        len.min(SOCKET_BYTES_MAX.saturating_sub(self.unread))
    }
}

/// What came in one WebSocket frame.
pub(super) enum Frame {
    Text(Value),
    Ping(Vec<u8>),
    Close(u16),
}

/// Takes whole frames off the beginning of `bytes`.
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

/// The position in a field, if there is one.
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
    pub(super) fn new(index: usize, wanted: BTreeMap<String, Option<Position>>, restores: bool) -> Self {
        Self {
            user: format!("u{index}"),
            socket: None,
            wanted,
            views: BTreeMap::new(),
            asked: Vec::new(),
            forges: false,
            questions: 0,
            is_connecting: false,
            restoring: restores.then(Restoring::default),
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

    /// The connection is gone: what it saw last on each channel is what it will give.
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
