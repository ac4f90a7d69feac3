//! What the edge gives a shard: an upgraded socket and what is known of its holder.

use std::net::TcpStream;

use bytes::Bytes;
use wire::{Close, ErrorCode, Resume, SessionId, TenantId};

use crate::auth::token::Identity;
use crate::protocol::outbound::Frame;
use crate::shard::reservation::Reservation;
use crate::transport::tls::Session;

/// One upgraded connection on its way from the edge to its shard. From here to close it belongs to the shard.
#[derive(Debug)]
pub(crate) struct Handoff {
    /// Its shard, and its place among the connections there.
    pub(crate) reservation: Reservation,
    /// Taken out of the edge's runtime; non-blocking.
    pub(crate) socket: TcpStream,
    /// Over TLS, what was agreed on this socket; bytes that were read and not yet asked for lie in it too.
    pub(crate) tls: Option<Session>,
    /// WebSocket bytes that came in one packet with the upgrade.
    pub(crate) early: Bytes,
    /// Drawn by the edge, anew for each connection: two tabs share a routing cookie and must not share a session.
    pub(crate) session_id: SessionId,
    /// `/ws/{tenant}`: whose token this path takes; `None` for `/ws`.
    pub(crate) path_tenant: Option<TenantId>,
    /// What the upgrade said of the holder.
    pub(crate) opening: Opening,
}

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum Opening {
    /// The upgrade carried a valid token.
    Authenticated(Identity),
    /// An event stream, whose request has said all that its client has to say.
    EventStream(Box<EventStreamOpening>),
    /// The upgrade carried no token: the first frame must be a `hello` with one.
    AwaitHello,
    /// A browser sees no HTTP status of a failed upgrade, so it is told in an `error` frame and a close code.
    Refused {
        /// The code of the `error` frame.
        code: ErrorCode,
        /// The code of the close that follows.
        close: Close,
        /// The sentence of the `error` frame.
        message: String,
        /// When to come back, if that can be said.
        retry_after_ms: Option<u64>,
    },
}

/// What the request of an event stream asked for.
#[derive(Debug)]
pub(crate) struct EventStreamOpening {
    /// The head of the answer, which is written first.
    pub(crate) head: Frame,
    pub(crate) identity: Identity,
    /// The session that goes on.
    pub(crate) session: Option<SessionId>,
    pub(crate) channels: Vec<Resume<'static>>,
    /// Scopes whose members are asked for.
    pub(crate) presence: Vec<String>,
}
