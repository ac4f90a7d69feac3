//! PURE. One connection as its shard sees it.

use std::num::NonZeroU16;

use crate::protocol::encoder::Encoder;
use crate::session::Session;
use crate::shard::delivery_confirmation::DeliveryConfirmation;
use crate::shard::outbox::Outbox;
use crate::shard::table::closing::ConnectionState;
use crate::shard::table::time::Ping;

/// One connection as the table sees it; its socket is the worker's.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) number: u64,
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    /// The last message queued here .
    pub(super) stamp: u64,
    /// When it is to be looked at again; earlier wakes are stale.
    pub(super) wake_ms: u64,
    /// When the next ping is due.
    pub(super) ping_ms: u64,
    /// What has become of the last ping.
    pub(super) ping: Ping,
    /// Listed in `dirty`.
    pub(super) dirty: bool,
    /// The socket takes nothing now; whoever waits for it flushes.
    pub(crate) blocked: bool,
    /// Since when, if so.
    pub(super) blocked_ms: u64,
    /// Listed in `behind`.
    pub(super) is_behind: bool,
    /// Of some scopes it is given the newest of each topic alone.
    pub(super) is_conflating: bool,
    pub(crate) state: ConnectionState,
    /// What the client is known to have received, if it wants a record of its session.
    pub(super) confirmation: Option<Box<DeliveryConfirmation>>,
    /// From the last ping that was answered to its pong.
    pub(super) rtt_ms: Option<NonZeroU16>,
}

const _: () = assert!(size_of::<Connection>() <= 248);

impl Connection {
    pub(super) fn new(number: u64, session: Session, ping_ms: u64) -> Self {
        Self {
            number,
            session,
            outbox: Outbox::new(Encoder::WebSocket),
            stamp: 0,
            wake_ms: 0,
            ping_ms,
            ping: Ping::Answered,
            dirty: false,
            blocked: false,
            blocked_ms: 0,
            is_behind: false,
            is_conflating: false,
            state: ConnectionState::Open,
            confirmation: None,
            rtt_ms: None,
        }
    }
}
