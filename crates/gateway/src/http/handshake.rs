//! From an HTTP request to a decision. Pure: headers, clock and random bits in, [`Upgrade`] or [`Refusal`] out.
//!
//! ```text
//!   malformed                        400, 426: an HTTP status, for whoever writes clients
//!   well-formed, not welcome         101, then an error frame and a close code: a browser sees no status
//!   well-formed with a token         101, authenticated
//!   well-formed without              101, and the first frame must be a hello with a token
//! ```
//!
//! A token may stand in `Authorization: Bearer`, in the subprotocol list beside `tidegate.v1` (as
//! `tidegate.token.` and the token; never echoed) or in a cookie. The cookie is sent by browsers without being
//! asked, whichever page opens the socket, so it counts only when the page's `Origin` is listed by name: `*`
//! does not do, and neither does a request without an `Origin`.

use std::sync::Arc;

use hyper::Request;
use hyper::header::{HeaderMap, ORIGIN};
use wire::{Close, ErrorCode, Families, SUBPROTOCOL, SessionId, TenantId};

use crate::auth::token::{Identity, Verifier};
use crate::config::Origins;
use crate::http::cors::Cors;
use crate::http::refusal::Refusal;
use crate::shard::handoff::Opening;

mod credentials;
mod well_formed;

use credentials::{Offers, cookies, find_token, names_token_in_query};

/// The routing cookie: HAProxy's stick-table keeps a client at its instance by it.
pub(crate) const ROUTING_COOKIE: &str = "session_id";

/// Whose it is. A valid one that the client brought stays, and with it the client's row in the stick-table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoutingCookie {
    /// It has been here, or on another instance.
    Brought(SessionId),
    /// It is given this one.
    Set(SessionId),
}

/// Decides about upgrades.
#[derive(Debug)]
pub(crate) struct Handshake {
    verifier: Arc<Verifier>,
    origins: Origins,
    /// `origins` without `*`: pages trusted with the cookie.
    trusted: Origins,
    cookie_name: String,
}

/// An upgrade that is answered 101, welcome or not.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// `Sec-WebSocket-Accept`.
    pub(crate) accept: String,
    /// Whether the client offered `tidegate.v1`, which is then selected.
    pub(crate) subprotocol: bool,
    /// The routing cookie.
    pub(crate) cookie: RoutingCookie,
    /// How the connection begins.
    pub(crate) opening: Opening,
}

// === impl Handshake ===

impl Handshake {
    /// Tokens are checked by `verifier`, pages by `origins`; `cookie_name` may hold a token.
    pub(crate) fn new(verifier: Arc<Verifier>, origins: Origins, cookie_name: String) -> Self {
        let trusted = Origins { any: false, ..origins.clone() };
        Self { verifier, origins, trusted, cookie_name }
    }

    /// Decides about a `GET` of `/ws` or `/ws/{tenant}`. `fresh` is a session id drawn for it.
    ///
    /// # Errors
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

    /// The grammar of channels.
    pub(crate) fn families(&self) -> &Families {
        self.verifier.families()
    }

    pub(crate) fn routing_cookie(&self, headers: &HeaderMap, fresh: SessionId) -> RoutingCookie {
        let brought = cookies(headers, ROUTING_COOKIE).find_map(SessionId::parse);
        brought.map_or(RoutingCookie::Set(fresh), RoutingCookie::Brought)
    }

    /// Who sends a request that is no upgrade, which needs a token. `trusts_cookie` says that the page may use one, whatever
    /// its origin.
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
                "this request carries no token; send it in Authorization: Bearer, or in the cookie of a trusted page",
            )),
            Err(Opening::Refused { code, message, .. }) => Err(Refusal::of(code, message)),
            Err(_) => Err(Refusal::unauthorized(ErrorCode::Unauthenticated, "this request carries no good token")),
        }
    }

    /// What pages of the request's origin may do.
    pub(crate) fn cors(&self, headers: &HeaderMap) -> Option<Cors> {
        let origin = headers.get(ORIGIN)?;
        self.check_origin(headers).ok()?;
        Some(Cors { origin: origin.clone(), credentials: self.is_trusted_page(headers) })
    }

    /// The error is an [`Opening::Refused`].
    fn open<B>(
        &self,
        request: &Request<B>,
        offers: &Offers<'_>,
        path_tenant: Option<&TenantId>,
        now_unix_s: u64,
    ) -> Result<Opening, Opening> {
        if offers.any && !offers.speaks_v1 {
            let message = format!("this gateway speaks the subprotocol {SUBPROTOCOL}, which was not offered");
            return Err(refused(ErrorCode::InvalidField, Close::WrongSubprotocol, message));
        }
        let identity = self.identify(request, offers, path_tenant, false, now_unix_s)?;
        Ok(identity.map_or(Opening::AwaitHello, Opening::Authenticated))
    }

    /// Who the request's token says that its client is. The error is an [`Opening::Refused`].
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
            let message = "a token does not belong in the address, where every log keeps it; send it in Authorization, \
                           in the subprotocol list, in the cookie, or in a hello frame";
            return Err(unauthenticated(message));
        }
        let trusts_cookie = trusts_cookie || self.is_trusted_page(headers);
        let Some(token) = find_token(headers, offers, &self.cookie_name, trusts_cookie)? else { return Ok(None) };
        let identity = match self.verifier.verify(token, now_unix_s) {
            Ok(identity) => identity,
            Err(error) => return Err(refused(error.code(), error.close(), error.to_string())),
        };
        if path_tenant.is_some_and(|tenant| *tenant != identity.tenant) {
            let message = "the token belongs to another tenant than this address";
            return Err(refused(ErrorCode::WrongIdentity, Close::WrongTenant, message));
        }
        Ok(Some(identity))
    }

    /// Programs send no `Origin` and need not: they have no user's cookies to abuse.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Opening> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        if origin.to_str().is_ok_and(|origin| self.origins.allow(origin)) {
            return Ok(());
        }
        let message = "pages of this origin may not connect here (http.allowed_origins)";
        Err(refused(ErrorCode::WrongOrigin, Close::WrongOrigin, message))
    }

    fn is_trusted_page(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| self.trusted.allow(origin))
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
