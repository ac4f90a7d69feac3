//! Fetches the key sets of issuers over HTTP, ahead of time, one fetch at a time for each set.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::auth::key_set::{self, KeySet, KeySetConfig, ParsedKeys};
use crate::auth::key_set_url::KeySetUrl;
use crate::auth::token::Verifier;
use crate::host::clock::unix_ms;
use crate::host::reloadable::Reloadable;
use crate::transport::tls_client::TlsClient;

/// Longest time of one fetch, from looking up the name to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest key set. The sets of large providers have a few KiB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer within {FETCH_TIMEOUT:?}")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("HTTP failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has status {0}; redirections are not followed")]
    Status(StatusCode),
    #[error("the answer cannot be read, or has more than {BODY_BYTES_MAX} bytes: {0}")]
    Body(String),
    #[error("the answer is not a key set: {0}")]
    NotKeySet(serde_json::Error),
}

/// Keys, and how long the issuer lets them be kept.
struct Fetched {
    parsed: ParsedKeys,
    max_age: Option<Duration>,
}

/// Keeps the key sets of the verifier up to date until it is dropped, also those of one that takes its place. Runs on the
/// current runtime.
pub(crate) async fn keep(verifier: &Reloadable<Verifier>) -> Infallible {
    let mut verifiers = verifier.subscribe();
    loop {
        let present = verifiers.borrow_and_update().clone();
        let _keepers: JoinSet<Infallible> = present.key_sets().cloned().map(keep_one).collect();
        verifiers.changed().await.expect("the verifier is borrowed");
    }
}

async fn keep_one(set: Arc<KeySet>) -> Infallible {
    let url = &set.config().url;
    if KeySetUrl::parse(url).is_ok_and(|url| !url.is_tls() && !url.is_loopback()) {
        tracing::warn!(url, "key set without TLS: anybody who answers in the issuer's place can sign tokens");
    }
    loop {
        let wait = Duration::from_millis(set.due_ms().saturating_sub(unix_ms()));
        if !wait.is_zero() {
            tokio::select! {
                // The clock may have been set back meanwhile.
                () = sleep(wait.min(set.interval())) => {}
                () = set.wanted() => continue,
            }
        }
        refresh(&set).await;
    }
}

/// Fetches a set once.
pub(crate) async fn refresh(set: &KeySet) {
    let KeySetConfig { url, .. } = set.config();
    set.begin(unix_ms());
    match timeout(FETCH_TIMEOUT, fetch(set.config())).await.unwrap_or(Err(FetchError::Timeout)) {
        Ok(Fetched { parsed: ParsedKeys { keys, ignored }, max_age }) => {
            match keys.len() {
                0 => tracing::warn!(url, ignored, "key set has no usable key"),
                keys => tracing::debug!(url, keys, ignored, "key set fetched"),
            }
            set.succeeded(keys, max_age, unix_ms());
        }
        Err(error) => {
            // The keys that are there are used meanwhile.
            if set.failed(unix_ms()) {
                tracing::warn!(url, %error, "fetching key set failed");
            }
        }
    }
}

async fn fetch(config: &KeySetConfig) -> Result<Fetched, FetchError> {
    let url = KeySetUrl::parse(&config.url).expect("checked at start");
    let tls = match url.is_tls() {
        true => Some(tls_client(config.ca.clone()).await.map_err(FetchError::Connect)?),
        false => None,
    };
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(FetchError::Connect)?;
    let response = match tls {
        Some(tls) => ask(tls.connect(url.host(), stream).await.map_err(FetchError::Connect)?, &url).await?,
        None => ask(stream, &url).await?,
    };
    let max_age = max_age(response.headers());
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes();
    Ok(Fetched { parsed: key_set::parse(&body).map_err(FetchError::NotKeySet)?, max_age })
}

/// Reads the certificates on another thread: the system has hundreds of them, and this one accepts clients meanwhile.
async fn tls_client(ca: Option<Vec<u8>>) -> io::Result<TlsClient> {
    spawn_blocking(move || TlsClient::new(ca.as_deref())).await?.map_err(io::Error::other)
}

async fn ask<S>(stream: S, url: &KeySetUrl) -> Result<Response<Incoming>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or with the socket.
    tokio::spawn(connection);
    let request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .expect("the parts of a URL are valid in a request");
    Ok(sender.send_request(request).await?)
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds =
        directives.find_map(|directive| directive.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
