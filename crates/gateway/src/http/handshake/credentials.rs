//! Where an upgrade may carry a token. This code neither keeps nor prints tokens.

use hyper::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use wire::SUBPROTOCOL;

use super::unauthenticated;
use crate::http::fields::{cookies, elements};
use crate::shard::handoff::Opening;

/// Prefix of a token in the subprotocol list. Base64url and dots are legal there (RFC 6455 §4.1, RFC 9110 §5.6.2).
const TOKEN_PROTOCOL: &str = "tidegate.token.";

/// Query parameters in which people often send tokens.
const TOKEN_PARAMETERS: [&str; 6] = ["token", "access_token", "auth_token", "authorization", "bearer", "jwt"];

/// The subprotocols that `Sec-WebSocket-Protocol` offers.
#[derive(Debug, Default)]
pub(super) struct Offers<'r> {
    /// Whether the client offers any. A client that does fails if the answer selects none.
    pub(super) any: bool,
    /// Whether [`SUBPROTOCOL`] is among them.
    pub(super) speaks_v1: bool,
    tokens: Vec<&'r [u8]>,
}

impl<'r> Offers<'r> {
    pub(super) fn read(headers: &'r HeaderMap) -> Self {
        let mut offers = Self::default();
        // An empty header offers nothing.
        for offer in elements(headers, &SEC_WEBSOCKET_PROTOCOL) {
            offers.any = true;
            offers.speaks_v1 |= offer == SUBPROTOCOL.as_bytes();
            offers.tokens.extend(offer.strip_prefix(TOKEN_PROTOCOL.as_bytes()));
        }
        offers
    }
}

/// The token of a request, if it has one. The error is an [`Opening::Refused`].
pub(super) fn find_token<'r>(
    headers: &'r HeaderMap,
    offers: &Offers<'r>,
    cookie_name: &str,
    is_trusted_page: bool,
) -> Result<Option<&'r str>, Opening> {
    let mut tokens = offers.tokens.clone();
    tokens.extend(bearer(headers));
    let mut in_cookies = cookies(headers, cookie_name).peekable();
    let is_cookie_ignored = !is_trusted_page && in_cookies.peek().is_some();
    if is_trusted_page {
        tokens.extend(in_cookies);
    }
    match tokens.split_first() {
        // Waiting for a hello would hide from the developer why the cookie was not accepted.
        None if is_cookie_ignored => Err(unauthenticated(
            "a token in a cookie is accepted only from a page whose origin is listed by name in http.allowed_origins; \
             programs send it in Authorization",
        )),
        None => Ok(None),
        Some((first, rest)) if rest.iter().any(|token| token != first) => {
            Err(unauthenticated("the request has different tokens in different places; send one"))
        }
        // No valid token has other characters, so the check of the token names the problem.
        Some((token, _)) => Ok(Some(str::from_utf8(token).unwrap_or_default())),
    }
}

/// Other schemes are ignored: browsers repeat the `Basic` credentials of a site with a password.
pub(in crate::http) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && token.first().is_none_or(u8::is_ascii_whitespace);
    is_bearer.then(|| token.trim_ascii())
}

/// Whether the query has a parameter in which people often send tokens.
pub(super) fn names_token_in_query(query: &str) -> bool {
    let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    names.any(|name| TOKEN_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter)))
}
