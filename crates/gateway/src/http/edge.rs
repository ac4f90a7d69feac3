//! The edge: accepts connections, handles HTTP, checks tokens, and passes upgraded sockets to the shards. One thread.
//!
//! ```text
//!   accept ─▶ (TLS) ─▶ hyper ─▶ route ─▶ admission ─▶ handshake ─▶ 101 ─▶ Handoff { socket, early, opening } ─▶ hub
//!     │ at most HANDSHAKES_MAX at once                                └▶ 4xx, 503, health, page: one answer, close
//!     └ each has handshake_timeout in total, however slowly its client sends or reads
//! ```
//!
//! A connection keeps nothing of its request: a single header value would keep hyper's whole read buffer of 8 KiB
//! alive.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use wire::{Close, ErrorCode, SessionId, TenantId};

use crate::config::{Paths, TrustedProxies};
use crate::health::Health;
use crate::health::instance_state::InstanceState;
use crate::host::clock::{millis, unix_ms, unix_s};
use crate::http::accept_backoff::accept_backoff;
use crate::http::answer;
use crate::http::client_address::{AddressKey, Peer, client_address};
use crate::http::event_stream::EventStreamRequest;
use crate::http::handshake::{Handshake, Upgrade};
use crate::http::head::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::http::page::Page;
use crate::http::refusal::Refusal;
use crate::http::routing_cookie::RoutingCookie;
use crate::metrics::counters::EdgeCounters;
use crate::metrics::refusal_log::{RefusalLog, RefusedClient};
use crate::protocol::outbound::Frame;
use crate::shard::handoff::{EventStreamOpening, Handoff, Opening};
use crate::shard::hub::Hub;
use crate::shard::reservation::{AddressPlace, Reservation};
use crate::transport::hand_over::HandOver;
use crate::transport::proxy_protocol;
use crate::transport::tls::Tls;

mod addresses;
mod admission;
mod diversion;
mod heads;
mod places;
mod route;
mod waiting_room;

pub(crate) use addresses::AddressLimits;
use addresses::Addresses;
use admission::{Admission, AdmissionDecision};
use diversion::Diversion;
use heads::{Head, Heads};
use places::ComeBack;
use route::Route;
use waiting_room::WaitingRoom;

/// Most requests in progress. At this limit no connection is accepted, and the kernel's backlog fills. Together with
/// [`HEAD_BYTES_MAX`] it limits the memory that unauthenticated clients can use in the edge to 64 MiB. With TLS the
/// limit is five times that, because its handshake messages may have 64 KiB.
const HANDSHAKES_MAX: usize = 4096;

/// Settings of the edge that an operator can configure.
#[derive(Debug, Clone)]
pub(crate) struct EdgeConfig {
    /// How long a request may take in total, from accept and TLS to the last byte of the answer.
    pub(crate) handshake_timeout: Duration,
    /// Most connections on all shards. Above it an upgrade is answered with 101 and close 1013. HAProxy would take a
    /// 503 as a failure of the instance, and try all others in turn.
    pub(crate) connections_max: u64,
    /// Upgrades admitted per second; 0 means no limit.
    pub(crate) connects_per_second: u32,
    /// Limits of one client address.
    pub(crate) addresses: AddressLimits,
    /// The proxies that may say for whom they connect.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Whether clients are being moved to emptier instances. A client that returns with its routing cookie is then sent
    /// on.
    pub(crate) diverts: Rc<Cell<bool>>,
    /// If set, the port accepts only TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) paths: Paths,
}

/// When the client of an event stream reconnects if another instance has room at once, in milliseconds.
const COME_BACK_ELSEWHERE_MS: u64 = 100;

/// When the client of an event stream reconnects if the keys of its token's issuer are not known yet, in milliseconds.
const COME_BACK_KEYS_MS: u64 = 2_000;

/// When a client may reconnect if this instance is full, in milliseconds. A random part is added.
const COME_BACK_FULL_MS: u64 = 5_000;

/// The edge and everything it uses.
pub(crate) struct Edge {
    config: EdgeConfig,
    admission: Admission,
    diversion: Diversion,
    waiting_room: WaitingRoom,
    addresses: Addresses,
    heads: Heads,
    /// Time zero of the admission's clock.
    begun: Instant,
    handshake: Handshake,
    health: Arc<Health>,
    /// The page at `/` and its tokens. Only in development.
    page: Option<Page>,
    /// The shards and their connection counts.
    hub: Hub,
    counters: Arc<EdgeCounters>,
    refusal_log: RefCell<RefusalLog>,
}

/// A connection that has been decided, and waits until hyper releases its socket.
struct PendingHandoff {
    reservation: Reservation,
    session_id: SessionId,
    path_tenant: Option<TenantId>,
    opening: Opening,
}

/// The decision about a request for an event stream.
enum StreamDecision {
    Opens(PendingHandoff),
    /// The answer says when the client may reconnect.
    ComesBack(Response<Full<Bytes>>),
}

/// Why hyper writes no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// The instance is frozen. Health checks get no answer.
    #[error("the instance is frozen")]
    Frozen,
    /// The shard writes the answer and everything after it.
    #[error("the shard answers")]
    HandedOver,
}

// === impl Edge ===

impl Edge {
    pub(crate) fn new(
        config: EdgeConfig,
        handshake: Handshake,
        health: Arc<Health>,
        page: Option<Page>,
        hub: Hub,
        counters: Arc<EdgeCounters>,
    ) -> Self {
        let (admission, begun) = (Admission::new(config.connects_per_second), Instant::now());
        let (diversion, waiting_room) = (Diversion::default(), WaitingRoom::default());
        let (addresses, heads) = (Addresses::new(config.addresses), Heads::default());
        Self {
            config,
            admission,
            diversion,
            waiting_room,
            addresses,
            heads,
            begun,
            handshake,
            health,
            page,
            hub,
            counters,
            refusal_log: RefCell::default(),
        }
    }

    /// Accepts connections until it is dropped. It runs on a local runtime, and each connection becomes a task.
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        let edge = Rc::new(self);
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut is_short = false;
        loop {
            if room.available_permits() == 0 && edge.heads.evict() {
                edge.counters.heads_evicted.add(1);
            }
            let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    is_short = false;
                    edge.counters.accepts.add(1);
                    let edge = edge.clone();
                    tokio::task::spawn_local(async move {
                        edge.serve(stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    let Some(pause) = accept_backoff(&error) else { continue };
                    edge.counters.accept_errors.add(1);
                    // One log line per shortage, not twenty per second. The counter shows how long the shortage lasts.
                    if !std::mem::replace(&mut is_short, true) {
                        tracing::warn!(%error, "accept failed");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Serves one connection: one request, one answer, and possibly a handoff.
    async fn serve(&self, mut stream: TcpStream, peer: SocketAddr) {
        // Frames are small and complete. Nagle's algorithm would only delay them.
        if stream.set_nodelay(true).is_err() {
            return; // The client has already disconnected.
        }
        let whole = async {
            let peer = match self.peer(&mut stream, peer).await {
                Ok(peer) => peer,
                Err(error) => {
                    self.counters.http_errors.add(1);
                    return tracing::debug!(%peer, %error, "PROXY protocol failed");
                }
            };
            let head = self.heads.begin(AddressKey::of(peer.address.ip()));
            let evicted = Rc::clone(&head.evicted);
            tokio::select! {
                () = self.speak(stream, peer, head) => {}
                () = evicted.notified() => {}
            }
        };
        if tokio::time::timeout(self.config.handshake_timeout, whole).await.is_err() {
            self.counters.timeouts.add(1);
        }
    }

    async fn speak(&self, stream: TcpStream, peer: Peer, head: Head<'_>) {
        match &self.config.tls {
            None => self.speak_http(stream, peer, head).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.speak_http(stream, peer, head).await,
                Err(error) => {
                    self.counters.tls_errors.add(1);
                    tracing::debug!(%error, "TLS failed");
                }
            },
        }
    }

    /// Where a connection comes from: its other end, or what a trusted proxy says at its beginning.
    async fn peer(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<Peer> {
        let proxies = &self.config.trusted_proxies;
        if !proxies.speak_proxy_protocol || !proxies.trust(address.ip()) {
            return Ok(Peer { address, is_unknown: false });
        }
        let named = proxy_protocol::read_header(stream).await?;
        Ok(Peer { address: named.unwrap_or(address), is_unknown: named.is_none() })
    }

    async fn speak_http<T: HandOver>(&self, stream: T, peer: Peer, head: Head<'_>) {
        let (pending, head) = (Cell::new(None), Cell::new(Some(head)));
        let service = service_fn(|request| {
            drop(head.take()); // It has arrived.
            Box::pin(self.answer(request, peer, &pending))
        });
        let mut http = http1::Builder::new()
            .header_read_timeout(None) // The deadline of the connection covers the head and everything after it.
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let served = poll_fn(|context| http.poll_without_shutdown(context)).await;
        match (served, pending.take()) {
            // The service fails on purpose for an event stream, so that hyper writes nothing.
            (Ok(()), Some(pending)) => self.place(pending, http.into_parts()).await,
            (Err(_), Some(pending)) if matches!(pending.opening, Opening::EventStream(_)) => {
                self.place(pending, http.into_parts()).await;
            }
            (Err(error), _) => {
                self.counters.http_errors.add(1);
                tracing::debug!(%error, "HTTP failed");
            }
            (Ok(()), None) => {
                // The answer has been written, and ends the connection.
                drop(http.into_parts().io.into_inner().shutdown().await);
            }
        }
    }

    /// Takes the socket out of this runtime and passes it to its shard.
    async fn place<T: HandOver, S>(&self, pending: PendingHandoff, parts: http1::Parts<TokioIo<T>, S>) {
        // A copy, because `read_buf` keeps hyper's whole buffer alive even when it is empty.
        let early = if parts.read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&parts.read_buf) };
        let Ok((socket, tls)) = parts.io.into_inner().hand_over().await else { return };
        let PendingHandoff { reservation, session_id, path_tenant, opening } = pending;
        match opening {
            Opening::EventStream(_) => self.counters.event_streams.add(1),
            _ => self.counters.upgrades.add(1),
        }
        self.hub.place(Handoff { reservation, socket, tls, early, session_id, path_tenant, opening });
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        pending: &Cell<Option<PendingHandoff>>,
    ) -> Result<Response<Full<Bytes>>, Unanswered> {
        let routed = Route::of(request.method(), request.uri().path(), &self.config.paths, self.page.is_some());
        let is_client = matches!(routed, Ok(Route::Upgrade(_) | Route::EventStream(_)));
        let instance_state = self.health.instance_state(Instant::now());
        let answered = match routed {
            Ok(Route::Upgrade(path_tenant)) => self.upgrade(&request, peer, path_tenant, pending).await,
            Ok(Route::EventStream(path_tenant)) => match self.event_stream(&request, peer, path_tenant).await {
                Ok(StreamDecision::Opens(handoff)) => {
                    pending.set(Some(handoff));
                    return Err(Unanswered::HandedOver);
                }
                Ok(StreamDecision::ComesBack(response)) => Ok(response),
                Err(refusal) => Err(refusal),
            }
            .map(|response| self.readable(&request, response)),
            Ok(Route::Preflight) => Ok(answer::preflight(self.handshake.cors(request.headers()))),
            Ok(Route::Health | Route::Livez | Route::Readyz) if instance_state == InstanceState::Frozen => {
                return Err(Unanswered::Frozen);
            }
            Ok(Route::Health) => Ok(answer::health(instance_state)),
            // The reason names servers, and this port is public.
            Ok(Route::Livez) => Ok(answer::livez(instance_state, None)),
            Ok(Route::Readyz) => Ok(answer::readyz(instance_state, None)),
            Ok(Route::Page) => {
                self.page.as_ref().ok_or(Refusal::not_found()).and_then(|page| page.answer(&request, unix_s()))
            }
            Err(refusal) => Err(refusal),
        };
        Ok(answered.unwrap_or_else(|refusal| {
            self.counters.http_refusals.add(1);
            tracing::debug!(status = refusal.status.as_u16(), code = refusal.code, "request refused");
            // Not those that a balancer takes elsewhere, and not what scanners ask every server for.
            if is_client && refusal.status.is_client_error() {
                let (code, reason) = (refusal.status.as_u16(), refusal.message.clone().into_owned());
                let refused = RefusedClient { code, reason, ..RefusedClient::default() };
                self.refusal_log.borrow_mut().write(&refused, Some(peer.address), self.now_ms());
            }
            self.readable(&request, answer::refusal(&refusal))
        }))
    }

    async fn upgrade(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
        path_tenant: Option<TenantId>,
        pending: &Cell<Option<PendingHandoff>>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let session_id = draw_session_id();
        let (upgrade, place) = match self.enter(request, peer) {
            // Checking a token costs time, so the limit comes before it.
            Err(refusal) => (self.handshake.refuse(request, self.crowded(refusal).opening(), session_id)?, None),
            Ok(place) => (self.decide(request, path_tenant.as_ref(), session_id).await?, place),
        };
        // The place is reserved before the state is read: a drain first closes admission and then counts.
        let mut reservation = self.hub.reserve();
        reservation.hold(place);
        if !self.takes_clients() {
            return Err(Refusal::draining());
        }
        if let Opening::Refused { code, .. } = &upgrade.opening {
            self.counters.upgrades_refused.add(1);
            tracing::debug!(code = code.as_str(), "upgrade refused");
        }
        let cookie = self.handshake.set_cookie(request.headers(), upgrade.cookie);
        let response = answer::switching_protocols(&upgrade, cookie);
        pending.set(Some(PendingHandoff { reservation, session_id, path_tenant, opening: upgrade.opening }));
        Ok(response)
    }

    /// Decides about an event stream. A client that has to reconnect gets a new routing cookie, so that a balancer
    /// sends it to another instance.
    async fn event_stream(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
        path_tenant: Option<TenantId>,
    ) -> Result<StreamDecision, Refusal> {
        let session_id = draw_session_id();
        let comes_back = |cookie: RoutingCookie, message: &str, after_ms| {
            let cookie = self.handshake.set_cookie(request.headers(), cookie.renewed(session_id));
            Ok(StreamDecision::ComesBack(answer::come_back(message, after_ms, cookie)))
        };
        // The same before and after the wait: a client that is sent on costs the others no turn.
        let goes_away =
            |cookie| comes_back(cookie, "this instance takes no new connections; others do", COME_BACK_ELSEWHERE_MS);
        let place = match self.enter(request, peer) {
            Ok(place) => place,
            // Checking a token costs time, so the limit comes before it.
            Err(refusal) => {
                let cookie = self.handshake.routing_cookie(request.headers(), session_id);
                if !self.takes_clients() {
                    return goes_away(cookie);
                }
                let ComeBack { message, retry_after_ms } = self.crowded(refusal);
                return comes_back(cookie, message, retry_after_ms);
            }
        };
        self.handshake.await_key(request, unix_ms()).await;
        let wanted = match self.handshake.decide_event_stream(request, path_tenant.as_ref(), unix_s(), session_id) {
            // The client would not come back after another status than 200.
            Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, message, .. }) => {
                return Ok(StreamDecision::ComesBack(answer::come_back(&message, COME_BACK_KEYS_MS, None)));
            }
            decided => decided?,
        };
        if !self.takes_clients() {
            return goes_away(wanted.cookie);
        }
        if self.diverts(wanted.cookie) {
            self.diversion.remember(session_id, Instant::now());
            let message = "this instance has more than its share of clients; others have room";
            return comes_back(wanted.cookie, message, COME_BACK_ELSEWHERE_MS);
        }
        if let Some(ComeBack { message, retry_after_ms }) = self.admit(true).await {
            return comes_back(wanted.cookie, message, retry_after_ms);
        }
        let mut reservation = self.hub.reserve();
        reservation.hold(place);
        if !self.takes_clients() {
            return goes_away(wanted.cookie);
        }
        let EventStreamRequest { identity, session, channels, presence, cookie } = wanted;
        let cookie = self.handshake.set_cookie(request.headers(), cookie);
        let head = answer::event_stream_head(cookie, self.handshake.cors(request.headers()));
        let opening = EventStreamOpening { head: Frame::new(head), identity, session, channels, presence };
        let opening = Opening::EventStream(Box::new(opening));
        Ok(StreamDecision::Opens(PendingHandoff { reservation, session_id, path_tenant, opening }))
    }

    /// Milliseconds since the edge began.
    fn now_ms(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    fn takes_clients(&self) -> bool {
        self.health.instance_state(Instant::now()).takes_clients()
    }

    /// Whether a client that returns with its routing cookie is sent on to an emptier instance.
    fn diverts(&self, cookie: RoutingCookie) -> bool {
        let RoutingCookie::Brought(cookie) = cookie else { return false };
        let diverts = self.config.diverts.get() && self.diversion.turns_away(cookie, Instant::now());
        if diverts {
            self.counters.upgrades_diverted.add(1);
        }
        diverts
    }

    /// Allows a page of a listed origin to read the answer.
    fn readable(&self, request: &Request<Incoming>, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        if let Some(cors) = self.handshake.cors(request.headers()) {
            cors.allow(response.headers_mut());
        }
        response
    }
}

fn draw_session_id() -> SessionId {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the kernel's random source does not fail once it has begun");
    SessionId::from_random(u128::from_ne_bytes(bits))
}

#[cfg(test)]
mod tests;
