//! PURE. One connection in the table of its shard.

use std::num::NonZeroU16;

use crate::protocol::encoder::Encoder;
use crate::session::Session;
use crate::shard::delivery_confirmation::DeliveryConfirmation;
use crate::shard::outbox::Outbox;
use crate::shard::table::closing::ConnectionState;
use crate::shard::table::time::Ping;

/// One connection in the table. Its socket belongs to the worker.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) number: u64,
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    /// The stamp of the last message delivered here. It prevents a second copy.
    pub(super) stamp: u64,
    /// When the connection is checked next, in milliseconds. Earlier wakes are stale.
    pub(super) wake_ms: u64,
    /// When the next ping is due, in milliseconds.
    pub(super) ping_ms: u64,
    /// The state of the last ping.
    pub(super) ping: Ping,
    /// Whether the connection is listed in `Connections::dirty`.
    pub(super) dirty: bool,
    /// Whether the socket is full. The task that waits for the socket flushes it.
    pub(crate) blocked: bool,
    /// When the socket became full, in milliseconds. Only valid while `blocked`.
    pub(super) blocked_ms: u64,
    /// Whether the connection has an entry in `SlowClients`.
    pub(super) is_behind: bool,
    /// Whether the client gets only the newest message of each topic in some scopes.
    pub(super) is_conflating: bool,
    pub(crate) state: ConnectionState,
    /// What the client is known to have received. Only kept if it wants a record of its session.
    pub(super) confirmation: Option<Box<DeliveryConfirmation>>,
    /// Milliseconds from the last answered ping to its pong.
    pub(super) rtt_ms: Option<NonZeroU16>,
}

const _: () = assert!(size_of::<Connection>() <= 248);

impl Connection {
    /// Whether the client has not shown a valid token.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.session.identity().is_none()
    }

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
