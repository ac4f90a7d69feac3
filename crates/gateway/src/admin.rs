//! The operators' port: `/metrics`, `/livez`, `/readyz`. Apart from the main port, so that the way in for
//! everybody can be closed without losing sight of the instance, and the numbers stay inside.

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
use tokio::sync::Semaphore;

use crate::edge::{HEAD_BYTES_MAX, HEADERS_MAX, accept_backoff, answer};
use crate::handshake::Refusal;
use crate::health::{Health, Silence};
use crate::metrics::Exposition;

/// Most requests in progress: a scraper or two, probes, and a person.
const REQUESTS_MAX: usize = 64;
/// How long one may take, from accept to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers operators.
pub(crate) struct Admin {
    exposition: Exposition,
    health: Arc<Health>,
}

impl Admin {
    pub(crate) fn new(exposition: Exposition, health: Arc<Health>) -> Self {
        Self { exposition, health }
    }

    /// Answers until dropped. Runs on a local runtime, beside the edge.
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
        let service = service_fn(|request: Request<_>| {
            std::future::ready(self.answer(request.method(), request.uri().path(), Instant::now()))
        });
        let http = http1::Builder::new()
            .header_read_timeout(None) // The deadline below covers the head too.
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // What goes wrong here is the asker's to notice.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, http).await;
    }

    /// The numbers are told even when a shard is stuck: then more than ever.
    fn answer(&self, method: &Method, path: &str, now: Instant) -> Result<Response<Full<Bytes>>, Silence> {
        let probe = match path {
            "/metrics" | "/livez" | "/readyz" if method != Method::GET && method != Method::HEAD => {
                return Ok(answer::refusal(&Refusal::method_not_allowed("GET, HEAD")));
            }
            "/metrics" => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                return Ok(answer::whole(StatusCode::OK, content_type, self.exposition.render()));
            }
            "/livez" => answer::livez(),
            "/readyz" => answer::readyz(&self.health),
            _ => return Ok(answer::refusal(&Refusal::not_found())),
        };
        if self.health.is_frozen(now) { Err(Silence) } else { Ok(probe) }
    }
}

#[cfg(test)]
mod tests;
