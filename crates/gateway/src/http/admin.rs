//! The admin port: `/metrics`, `/livez`, `/readyz`, `/drain`, `/connections`, `/dead-letters`, `/receipts`. It is
//! separate from the main port, so that an operator can close the main port and still observe the instance, and so
//! that the metrics stay internal.
//!
//! ```text
//!   accept ─▶ head, at most HEAD_TIMEOUT ─▶ Act ─▶ authorised ─▶ audit log ─▶ answer, at most REQUEST_TIMEOUT
//!     └ of HEADS_MAX that wait, the oldest is given up      └ probes need no place of REQUESTS_MAX
//! ```

use std::cell::Cell;
use std::convert::Infallible;
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
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::health::instance_state::InstanceState;
use crate::health::{Health, NoAnswer};
use crate::host::clock::unix_ms;
use crate::http::accept_backoff::accept_backoff;
use crate::http::answer;
use crate::http::head::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::http::refusal::Refusal;
use crate::http::waiting_heads::WaitingHeads;
use crate::metrics::Exposition;
use crate::shard::hub::Hub;

mod act;
mod authorisation;
mod connections;
mod records;

use self::act::Act;
pub(crate) use self::authorisation::Authorisation;
use self::connections::Connections;
pub(crate) use self::records::Records;

/// Largest number of connections whose head has not arrived. It is more than the runtime accepts before it lets the
/// accepted ones read.
const HEADS_MAX: usize = 256;
/// Longest time until a head is complete. Probes send theirs at once, and give up after a second or two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest number of requests in progress, without probes: a scraper or two, and an operator.
const REQUESTS_MAX: usize = 64;
/// Longest time of one request, from accept to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The service of the admin port.
pub(crate) struct Admin {
    authorisation: Authorisation,
    exposition: Exposition,
    health: Arc<Health>,
    /// Notified when an operator asks the instance to drain.
    leave: Arc<Notify>,
    records: Records,
    connections: Connections,
    /// Places of requests other than probes.
    places: Arc<Semaphore>,
}

impl Admin {
    pub(crate) fn new(
        authorisation: Authorisation,
        exposition: Exposition,
        health: Arc<Health>,
        leave: Arc<Notify>,
        records: Records,
        hub: Hub,
    ) -> Self {
        let (connections, places) = (Connections::new(hub), Arc::new(Semaphore::new(REQUESTS_MAX)));
        Self { authorisation, exposition, health, leave, records, connections, places }
    }

    /// Serves requests until dropped. Runs on a local runtime, on the thread of the edge.
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        let (admin, heads) = (Rc::new(self), WaitingHeads::new(HEADS_MAX));
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (admin, head) = (Rc::clone(&admin), heads.enter());
                    tokio::task::spawn_local(async move {
                        // A failure here concerns only the client of this request.
                        tokio::select! {
                            _ = tokio::time::timeout(REQUEST_TIMEOUT, admin.serve(stream, peer, || head.arrived())) => {}
                            () = head.given_up() => {}
                        }
                    });
                }
                Err(error) => {
                    if let Some(pause) = accept_backoff(&error) {
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Serves one connection. Calls `arrived` when its head is complete.
    async fn serve(&self, stream: TcpStream, peer: SocketAddr, arrived: impl Fn()) {
        // Held until the client has taken the whole answer.
        let place = Cell::new(None);
        let service = service_fn(async |request: Request<Incoming>| {
            arrived();
            self.answer(&request, peer, &place).await
        });
        let http = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let _ = http.await;
    }

    async fn answer(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
        place: &Cell<Option<OwnedSemaphorePermit>>,
    ) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let act = match Act::of(request.method(), request.uri().path()) {
            Ok(act) => act,
            Err(refusal) => return Ok(answer::refusal(&refusal)),
        };
        let caller = match self.authorisation.authorise(request, act, unix_ms() / 1_000) {
            Ok(caller) => caller,
            Err(refusal) => {
                tracing::debug!(%peer, code = refusal.code, "admin request refused");
                return Ok(answer::refusal(&refusal));
            }
        };
        if !act.is_probe() {
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(permit) => place.set(Some(permit)),
                Err(_) => return Ok(answer::refusal(&Refusal::busy())),
            }
        }
        if let Some(act) = act.audited() {
            tracing::info!(target: "audit", act, caller = &*caller.0, %peer, "administrative act");
        }
        self.perform(act, request.uri().query().unwrap_or_default(), Instant::now()).await
    }

    /// Does what was asked for. `/metrics` is answered even if a shard is stuck, because the metrics are needed most
    /// then.
    async fn perform(&self, act: Act, query: &str, now: Instant) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let instance_state = self.health.instance_state(now);
        Ok(match act {
            Act::Livez | Act::Readyz if instance_state == InstanceState::Frozen => return Err(NoAnswer),
            Act::Livez => answer::livez(instance_state, self.health.broker_failure_reason().as_deref()),
            Act::Readyz => answer::readyz(instance_state, self.health.broker_failure_reason().as_deref()),
            Act::Metrics => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                answer::whole(StatusCode::OK, content_type, self.exposition.render())
            }
            Act::ListConnections => self.connections.list(query).await,
            Act::ListDeadLetters => self.records.dead_letters(query).await,
            Act::ListReceipts => self.records.receipts(query).await,
            Act::Drain => {
                self.leave.notify_one();
                answer::draining()
            }
        })
    }
}

#[cfg(test)]
mod tests;
