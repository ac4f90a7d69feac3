//! From an HTTP request to a decision. Pure: headers, clock and random bits in, [`Upgrade`] or [`Refusal`] out.
//!
//! ```text
//!   malformed                        400, 426: an HTTP status, for developers of clients
//!   well-formed, refused             101, then an error frame and a close code: a browser sees no status
//!   well-formed with a token         101, authenticated
//!   well-formed without              101, and the first frame must be a hello with a token
//! ```
//!
//! A token may be in `Authorization: Bearer`, in the subprotocol list beside `tidegate.v1` (as `tidegate.token.` and
//! the token; never echoed) or in a cookie. Browsers send the cookie for every page that opens the socket. So it counts
//! only if the page's `Origin` is listed by its whole name: a pattern is not enough, and neither is a request without an
//! `Origin`.

use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use tokio::sync::Semaphore;
use wire::{Close, ErrorCode, Families, SUBPROTOCOL, SessionId, TenantId};

use crate::auth::token::{Identity, Verifier};
use crate::config::origins::is_of_host;
use crate::config::{HttpConfig, Pages, SessionCookie};
use crate::host::reloadable::Reloadable;
use crate::http::cors::Cors;
use crate::http::fields::only;
use crate::http::refusal::Refusal;
use crate::http::routing_cookie::RoutingCookie;
use crate::shard::handoff::Opening;

mod credentials;
mod well_formed;

pub(in crate::http) use credentials::bearer;
use credentials::{Offers, find_token, names_token_in_query};

/// Most requests that wait for the key of their token. Each holds a place among the requests in progress.
const KEY_WAITS_MAX: usize = 256;

/// Decides about upgrades and other requests with tokens.
#[derive(Debug)]
pub(crate) struct Handshake {
    verifier: Reloadable<Verifier>,
    pages: Reloadable<Pages>,
    families: Families,
    session_cookie: SessionCookie,
    cookie_name: String,
    /// A permit for each request that may wait for the key of its token.
    key_waits: Semaphore,
}

/// An upgrade that is answered 101, accepted or refused.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    pub(crate) accept: String,
    /// Whether the client offered `tidegate.v1`. It is then selected.
    pub(crate) subprotocol: bool,
    /// The routing cookie of the client.
    pub(crate) cookie: RoutingCookie,
    /// How the connection begins.
    pub(crate) opening: Opening,
}

// === impl Handshake ===

impl Handshake {
    /// `verifier` checks tokens, `pages` may connect, and the cookie `cookie_name` may contain a token.
    pub(crate) fn new(
        verifier: Reloadable<Verifier>,
        pages: Reloadable<Pages>,
        http: &HttpConfig,
        cookie_name: String,
    ) -> Self {
        let families = verifier.get().families().clone();
        let (session_cookie, key_waits) = (http.session_cookie.clone(), Semaphore::new(KEY_WAITS_MAX));
        Self { verifier, pages, families, session_cookie, cookie_name, key_waits }
    }

    /// Decides about a `GET` of `/ws` or `/ws/{tenant}`. `fresh` is a new session id for it.
    ///
    /// # Errors
    ///
    /// When the request is not a well-formed upgrade.
    pub(crate) fn decide<B>(
        &self,
        request: &Request<B>,
        path_tenant: Option<&TenantId>,
        now_unix_s: u64,
        fresh: SessionId,
    ) -> Result<Upgrade, Refusal> {
        let accept = well_formed::check(request)?;
        let offers = Offers::read(request.headers());
        let opening = self.open(request, &offers, path_tenant, now_unix_s).unwrap_or_else(|refused| refused);
        let cookie = self.routing_cookie(request.headers(), fresh);
        Ok(Upgrade { accept, subprotocol: offers.speaks_v1, cookie, opening })
    }

    /// The same for a client that is refused whatever its token says. So the token is not looked at.
    ///
    /// # Errors
    ///
    /// When the request is not a well-formed upgrade.
    pub(crate) fn refuse<B>(
        &self,
        request: &Request<B>,
        refused: Opening,
        fresh: SessionId,
    ) -> Result<Upgrade, Refusal> {
        let accept = well_formed::check(request)?;
        let subprotocol = Offers::read(request.headers()).speaks_v1;
        let cookie = self.routing_cookie(request.headers(), fresh);
        Ok(Upgrade { accept, subprotocol, cookie, opening: refused })
    }

    /// The channel families, which define the grammar of channels.
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// Waits until the key of the request's token is known, for a bounded time. Above [`KEY_WAITS_MAX`] it does not wait:
    /// the client is then told to come back.
    pub(crate) async fn await_key<B>(&self, request: &Request<B>, now_ms: u64) {
        let verifier = self.verifier.get();
        if verifier.key_sets().next().is_none() {
            return;
        }
        let Ok(_permit) = self.key_waits.try_acquire() else { return };
        let headers = request.headers();
        let offers = Offers::read(headers);
        if let Ok(Some(token)) = find_token(headers, &offers, &self.cookie_name, true) {
            verifier.await_key(token, now_ms).await;
        }
    }

    /// Whether a session must not be continued.
    pub(crate) fn is_revoked(&self, session: SessionId) -> bool {
        self.verifier.get().revocations().cover_session(session)
    }

    pub(crate) fn routing_cookie(&self, headers: &HeaderMap, fresh: SessionId) -> RoutingCookie {
        RoutingCookie::choose(&self.session_cookie, headers, fresh)
    }

    /// The value of `Set-Cookie` that gives `cookie` to the client of this request.
    pub(crate) fn set_cookie(&self, headers: &HeaderMap, cookie: RoutingCookie) -> Option<HeaderValue> {
        cookie.header(&self.session_cookie, headers)
    }

    /// The user and tenant of a request that is not an upgrade and needs a token. `trusts_cookie` says that the page
    /// may use the cookie, whatever its origin.
    pub(crate) fn authenticate<B>(
        &self,
        request: &Request<B>,
        path_tenant: Option<&TenantId>,
        trusts_cookie: bool,
        now_unix_s: u64,
    ) -> Result<Identity, Refusal> {
        match self.identify(request, &Offers::default(), path_tenant, trusts_cookie, now_unix_s) {
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => Err(Refusal::unauthorized(
                ErrorCode::Unauthenticated,
                "this request has no token; send it in Authorization: Bearer, or in the cookie of a trusted page",
            )),
            Err(Opening::Refused { code, message, .. }) => Err(Refusal::of(code, message)),
            Err(_) => Err(Refusal::unauthorized(ErrorCode::Unauthenticated, "this request has no valid token")),
        }
    }

    /// The access of pages of the request's origin.
    pub(crate) fn cors(&self, headers: &HeaderMap) -> Option<Cors> {
        let origin = headers.get(ORIGIN)?;
        self.check_origin(headers).ok()?;
        Some(Cors { origin: origin.clone(), credentials: self.is_trusted_page(headers) })
    }

    /// How the connection begins. The error is an [`Opening::Refused`].
    fn open<B>(
        &self,
        request: &Request<B>,
        offers: &Offers<'_>,
        path_tenant: Option<&TenantId>,
        now_unix_s: u64,
    ) -> Result<Opening, Opening> {
        if offers.any && !offers.speaks_v1 {
            let message = format!("this gateway supports the subprotocol {SUBPROTOCOL}, which was not offered");
            return Err(refused(ErrorCode::InvalidField, Close::WrongSubprotocol, message));
        }
        let identity = self.identify(request, offers, path_tenant, false, now_unix_s)?;
        Ok(identity.map_or(Opening::AwaitHello, Opening::Authenticated))
    }

    /// The user and tenant of the request's token, if it has one. The error is an [`Opening::Refused`].
    fn identify<B>(
        &self,
        request: &Request<B>,
        offers: &Offers<'_>,
        path_tenant: Option<&TenantId>,
        trusts_cookie: bool,
        now_unix_s: u64,
    ) -> Result<Option<Identity>, Opening> {
        let headers = request.headers();
        self.check_origin(headers)?;
        if request.uri().query().is_some_and(names_token_in_query) {
            let message = "do not send a token in the address, because logs keep addresses; send it in Authorization, \
                           in the subprotocol list, in the cookie, or in a hello frame";
            return Err(unauthenticated(message));
        }
        let trusts_cookie = trusts_cookie || self.is_trusted_page(headers);
        let Some(token) = find_token(headers, offers, &self.cookie_name, trusts_cookie)? else { return Ok(None) };
        let identity = match self.verifier.get().verify(token, now_unix_s) {
            Ok(identity) => identity,
            Err(error) => {
                let (code, close, message) = (error.code(), error.close(), error.to_string());
                return Err(Opening::Refused { code, close, message, retry_after_ms: error.retry_after_ms() });
            }
        };
        if path_tenant.is_some_and(|tenant| *tenant != identity.tenant) {
            let message = "the token belongs to another tenant than the address";
            return Err(refused(ErrorCode::WrongIdentity, Close::WrongTenant, message));
        }
        Ok(Some(identity))
    }

    /// Programs send no `Origin`, or that of the gateway's own host. Both are allowed: they have no user's cookies to
    /// abuse. A page of that host is allowed with them, but its cookie is not trusted unless it is listed.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Opening> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let host = || only(headers, &HOST).and_then(|host| str::from_utf8(host).ok()).unwrap_or_default();
        if origin.to_str().is_ok_and(|origin| self.pages.get().allowed.allow(origin) || is_of_host(origin, host())) {
            return Ok(());
        }
        let message = "pages of this origin may not connect here (http.allowed_origins)";
        Err(refused(ErrorCode::WrongOrigin, Close::WrongOrigin, message))
    }

    fn is_trusted_page(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| self.pages.get().trusted.allow(origin))
    }
}

fn refused(code: ErrorCode, close: Close, message: impl Into<String>) -> Opening {
    Opening::Refused { code, close, message: message.into(), retry_after_ms: None }
}

fn unauthenticated(message: &str) -> Opening {
    refused(ErrorCode::Unauthenticated, Close::Unauthenticated, message)
}

#[cfg(test)]
mod tests;
