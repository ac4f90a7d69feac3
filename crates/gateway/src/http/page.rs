//! The dev page at `/`, and the tokens that it requests at `/dev/token`. Dev mode only.
//!
//! A client that can reach this port can act as any user. Therefore dev mode listens on loopback only. A page of
//! another site cannot get a token: its requests are refused, a token is issued by `POST` alone so that no page can
//! include it as a script, there are no CORS headers, and a host name that was rebound to 127.0.0.1 fails the check of
//! `Host`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_SECURITY_POLICY, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::http::answer;
use crate::http::cross_site::is_cross_site;
use crate::http::refusal::Refusal;

mod dev_token;

pub(crate) use dev_token::DevTokens;

/// The content security policy: the page loads only files of this binary, so it needs no internet, and it runs no
/// other code.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// A file of the dev page.
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: &[File] = &[
    File { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    File { path: "/dev/page.css", content_type: "text/css; charset=utf-8", text: include_str!("page/page.css") },
    File { path: "/dev/page.js", content_type: "text/javascript; charset=utf-8", text: include_str!("page/page.js") },
];

/// Serves the dev page and its tokens.
#[derive(Debug)]
pub(crate) struct Page {
    tokens: DevTokens,
}

impl Page {
    pub(crate) fn new(tokens: DevTokens) -> Self {
        Self { tokens }
    }

    /// Answers a request: `GET` or `HEAD` of a file, and `POST` for a token.
    pub(crate) fn answer<B>(&self, request: &Request<B>, now_unix_s: u64) -> Result<Response<Full<Bytes>>, Refusal> {
        if !names_loopback(request) {
            return Err(Refusal::bad_request("the dev page must be opened as localhost, 127.0.0.1 or [::1]"));
        }
        let path = request.uri().path();
        if path == "/dev/token" {
            if request.method() != Method::POST {
                return Err(Refusal::method_not_allowed("POST"));
            }
            if is_cross_site(request.headers()) {
                return Err(Refusal::cross_site());
            }
            let query = request.uri().query().unwrap_or_default();
            // The body is only the token, so that `$(curl -s -X POST …)` is enough in a shell.
            let token = self.tokens.issue(query, now_unix_s)?;
            return Ok(answer::whole(StatusCode::OK, "text/plain; charset=utf-8", token + "\n"));
        }
        let file = FILES.iter().find(|file| file.path == path).ok_or(Refusal::not_found())?;
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Refusal::method_not_allowed("GET, HEAD"));
        }
        let mut response = answer::whole(StatusCode::OK, file.content_type, Bytes::from_static(file.text.as_bytes()));
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        Ok(response)
    }
}

fn names_loopback<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        let rest = host.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

#[cfg(test)]
mod tests;
