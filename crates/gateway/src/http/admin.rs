//! The admin port: `/metrics`, `/livez`, `/readyz`, `/drain`, `/connections`, `/dead-letters`, `/receipts`. It is
//! separate from the main port, so that an operator can close the main port and still observe the instance, and so
//! that the metrics stay internal.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::health::instance_state::InstanceState;
use crate::health::{Health, NoAnswer};
use crate::http::accept_backoff::accept_backoff;
use crate::http::answer;
use crate::http::head::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::http::refusal::Refusal;
use crate::metrics::Exposition;
use crate::shard::hub::Hub;

mod connections;
mod records;

use self::connections::Connections;
pub(crate) use self::records::Records;

/// Largest number of requests in progress: a scraper or two, probes, and an operator.
const REQUESTS_MAX: usize = 64;
/// Longest time of one request, from accept to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The service of the admin port.
pub(crate) struct Admin {
    exposition: Exposition,
    health: Arc<Health>,
    /// Notified when an operator asks the instance to drain.
    leave: Arc<Notify>,
    records: Records,
    connections: Connections,
}

impl Admin {
    pub(crate) fn new(
        exposition: Exposition,
        health: Arc<Health>,
        leave: Arc<Notify>,
        records: Records,
        hub: Hub,
    ) -> Self {
        Self { exposition, health, leave, records, connections: Connections::new(hub) }
    }

    /// Serves requests until dropped. Runs on a local runtime, on the thread of the edge.
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        let admin = Rc::new(self);
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = admin.clone();
                    tokio::task::spawn_local(async move {
                        admin.serve(stream).await;
                        drop(permit);
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

    async fn serve(&self, stream: TcpStream) {
        let service = service_fn(async |request: Request<_>| {
            let (method, uri) = (request.method(), request.uri());
            match (method, uri.path()) {
                (&Method::GET, "/connections") => Ok(self.connections.list(uri.query().unwrap_or_default()).await),
                (&Method::GET, "/dead-letters") => Ok(self.records.dead_letters(uri.query().unwrap_or_default()).await),
                (&Method::GET, "/receipts") => Ok(self.records.receipts(uri.query().unwrap_or_default()).await),
                (_, path) => self.answer(method, path, Instant::now()),
            }
        });
        let http = http1::Builder::new()
            .header_read_timeout(None) // The deadline below covers the head too.
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // A failure here concerns only the client of this request.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, http).await;
    }

    /// Answers a request. `/metrics` is answered even if a shard is stuck, because the metrics are needed most then.
    fn answer(&self, method: &Method, path: &str, now: Instant) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let instance_state = self.health.instance_state(now);
        let probe = match path {
            "/metrics" | "/livez" | "/readyz" if method != Method::GET && method != Method::HEAD => {
                return Ok(answer::refusal(&Refusal::method_not_allowed("GET, HEAD")));
            }
            "/metrics" => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                return Ok(answer::whole(StatusCode::OK, content_type, self.exposition.render()));
            }
            "/connections" | "/dead-letters" | "/receipts" => {
                return Ok(answer::refusal(&Refusal::method_not_allowed("GET")));
            }
            "/drain" if method != Method::POST => return Ok(answer::refusal(&Refusal::method_not_allowed("POST"))),
            "/drain" => {
                self.leave.notify_one();
                return Ok(answer::draining());
            }
            "/livez" => answer::livez(instance_state),
            "/readyz" => answer::readyz(instance_state),
            _ => return Ok(answer::refusal(&Refusal::not_found())),
        };
        if instance_state == InstanceState::Frozen { Err(NoAnswer) } else { Ok(probe) }
    }
}

#[cfg(test)]
mod tests;
