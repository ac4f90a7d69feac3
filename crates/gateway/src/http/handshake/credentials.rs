//! Where an upgrade may carry a token. This code neither keeps nor prints tokens.

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use wire::SUBPROTOCOL;

use super::unauthenticated;
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
    tokens: Vec<&'r str>,
}

impl<'r> Offers<'r> {
    pub(super) fn read(headers: &'r HeaderMap) -> Self {
        let mut offers = Self::default();
        for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            let Ok(list) = value.to_str() else {
                offers.any = true;
                continue;
            };
            // An empty header offers nothing (RFC 9110 §5.6.1: empty elements of a list count for nothing).
            for offer in list.split(',').map(str::trim).filter(|offer| !offer.is_empty()) {
                offers.any = true;
                offers.speaks_v1 |= offer == SUBPROTOCOL;
                offers.tokens.extend(offer.strip_prefix(TOKEN_PROTOCOL));
            }
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
        Some((token, _)) => Ok(Some(token)),
    }
}

/// Other schemes are ignored: browsers repeat the `Basic` credentials of a site with a password.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The values of all cookies named `name`.
pub(super) fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter_map(move |(key, value)| (key == name).then_some(value))
}

/// Whether the query has a parameter in which people often send tokens.
pub(super) fn names_token_in_query(query: &str) -> bool {
    let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    names.any(|name| TOKEN_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter)))
}
