//! What the HTTP edge passes to a shard: an upgraded socket, and what is known of its client.

use std::net::TcpStream;

use bytes::Bytes;
use wire::{Close, ErrorCode, Resume, SessionId, TenantId};

use crate::auth::token::Identity;
use crate::protocol::outbound::Frame;
use crate::shard::reservation::Reservation;
use crate::transport::tls::Session;

/// One upgraded connection on its way from the edge to its shard. The shard owns it from then on.
#[derive(Debug)]
pub(crate) struct Handoff {
    /// Its shard, and its place among that shard's connections.
    pub(crate) reservation: Reservation,
    /// The socket, taken out of the edge's runtime. It is non-blocking.
    pub(crate) socket: TcpStream,
    /// The TLS session of the socket, if it has one. It also holds bytes that were read and not yet consumed.
    pub(crate) tls: Option<Session>,
    /// WebSocket bytes that came in one packet with the upgrade.
    pub(crate) early: Bytes,
    /// A random id that the edge draws for each connection. Two browser tabs share a routing cookie and must not share
    /// a session.
    pub(crate) session_id: SessionId,
    /// The tenant whose tokens this path accepts (`/ws/{tenant}`); `None` for `/ws`.
    pub(crate) path_tenant: Option<TenantId>,
    /// How the connection begins.
    pub(crate) opening: Opening,
}

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum Opening {
    /// The upgrade carried a valid token.
    Authenticated(Identity),
    /// An event stream. Its request contains everything that the client can say.
    EventStream(Box<EventStreamOpening>),
    /// The upgrade carried no token: the first frame must be a `hello` with one.
    AwaitHello,
    /// The connection is refused after the upgrade. A browser cannot see the HTTP status of a failed upgrade, so it
    /// gets an `error` frame and a close code.
    Refused {
        /// The code of the `error` frame.
        code: ErrorCode,
        /// The code of the close that follows.
        close: Close,
        /// The message of the `error` frame.
        message: String,
        /// When the client may try again, in milliseconds, if that is known.
        retry_after_ms: Option<u64>,
    },
}

/// What an event stream's request asked for.
#[derive(Debug)]
pub(crate) struct EventStreamOpening {
    /// The head of the HTTP response. It is written first.
    pub(crate) head: Frame,
    pub(crate) identity: Identity,
    /// The session to continue, if the request named one.
    pub(crate) session: Option<SessionId>,
    pub(crate) channels: Vec<Resume<'static>>,
    /// The scopes whose members are requested.
    pub(crate) presence: Vec<String>,
}
