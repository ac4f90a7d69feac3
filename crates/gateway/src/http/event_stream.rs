//! From a `GET /sse` to a decision. Pure: request and clock in, [`EventStreamRequest`] or [`Refusal`] out.
//!
//! ```text
//!   a retry cannot help          400, 401, 403: a browser never reconnects after a status other than 200
//!   a retry can help             200, an `error` event, when to reconnect, and the end
//!   accepted                     200, and the events of the session
//! ```
//!
//! A token may be in `Authorization: Bearer`, or in the cookie of a trusted page. A page is trusted if its `Origin` is
//! listed by name, or if it has the same origin: browsers then send no `Origin` but `Sec-Fetch-Site: same-origin`.

use std::borrow::Cow;

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use wire::{CHANNELS_PER_CONNECTION_MAX, ErrorCode, Resume, SessionId, TenantId};

use crate::auth::token::Identity;
use crate::http::cross_site::SEC_FETCH_SITE;
use crate::http::handshake::Handshake;
use crate::http::percent::percent_decode;
use crate::http::refusal::Refusal;
use crate::http::routing_cookie::RoutingCookie;
use crate::protocol::cursor::{CURSOR_BYTES_MAX, Cursor};
use crate::session;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Headers that may occur only once.
const SINGLE: [HeaderName; 4] = [HOST, ORIGIN, AUTHORIZATION, LAST_EVENT_ID];

/// The content of a well-formed request.
#[derive(Debug)]
pub(crate) struct EventStreamRequest {
    pub(crate) identity: Identity,
    /// The session to continue, if the request has the id of one of its events.
    pub(crate) session: Option<SessionId>,
    pub(crate) channels: Vec<Resume<'static>>,
    /// Scopes whose members are requested.
    pub(crate) presence: Vec<String>,
    pub(crate) cookie: RoutingCookie,
}

/// The query parameters of the request.
#[derive(Debug, Default)]
struct Query {
    channels: Vec<String>,
    presence: Vec<String>,
    cursor: Option<String>,
}

impl Handshake {
    /// Decides about a `GET` of `/sse` or `/sse/{tenant}`. `fresh` is a new session id for it.
    ///
    /// # Errors
    ///
    /// When a retry of the same request cannot help.
    pub(crate) fn decide_event_stream<B>(
        &self,
        request: &Request<B>,
        path_tenant: Option<&TenantId>,
        now_unix_s: u64,
        fresh: SessionId,
    ) -> Result<EventStreamRequest, Refusal> {
        let headers = request.headers();
        if SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
            return Err(Refusal::bad_request(
                "a request must have one Host, and at most one Origin, Authorization and Last-Event-ID",
            ));
        }
        let cookie = self.routing_cookie(headers, fresh);
        let identity = self.authenticate(request, path_tenant, is_same_origin(headers), now_unix_s)?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let cursor = match headers.get(LAST_EVENT_ID) {
            Some(id) => Some(Cow::Borrowed(id.to_str().unwrap_or("\u{fffd}"))),
            None => query.cursor.map(Cow::Owned),
        };
        let (session, channels) = match cursor.filter(|cursor| !cursor.is_empty()) {
            None => (None, query.channels.into_iter().map(|channel| (channel, None)).collect()),
            Some(text) => {
                let cursor = Cursor::parse(&text).ok_or_else(|| {
                    let message =
                        "Last-Event-ID must be the id of an event of this gateway; leave it out for a new session";
                    Refusal::bad_field(ErrorCode::InvalidPosition, message)
                })?;
                if !session::is_of(cursor.session, &identity.tenant, &identity.user) {
                    let message =
                        "this Last-Event-ID belongs to another user's session; leave it out for a new session";
                    return Err(Refusal::forbidden(ErrorCode::WrongIdentity, message));
                }
                if self.is_revoked(cursor.session) {
                    return Err(Refusal::unauthorized(ErrorCode::Revoked, session::REVOKED));
                }
                (Some(cursor.session), cursor.channels)
            }
        };
        self.check_channels(&identity, &channels)?;
        let resume = |(channel, position)| Resume { channel: Cow::Owned(channel), position };
        let channels = channels.into_iter().map(resume).collect();
        Ok(EventStreamRequest { identity, session, channels, presence: query.presence, cookie })
    }

    /// Checks that every channel can be subscribed to, and that the positions fit into an id.
    fn check_channels(
        &self,
        identity: &Identity,
        channels: &[(String, Option<wire::Position>)],
    ) -> Result<(), Refusal> {
        if channels.is_empty() {
            return Err(Refusal::bad_field(
                ErrorCode::InvalidChannel,
                "the request must name channels: /sse?channels=CHANNEL,CHANNEL",
            ));
        }
        let names = || channels.iter().map(|(channel, _)| channel.as_str());
        if channels.len() > CHANNELS_PER_CONNECTION_MAX || !Cursor::has_room_for(names()) {
            let message = format!(
                "an event stream has at most {CHANNELS_PER_CONNECTION_MAX} channels, whose names and positions fit into \
                 an id of {CURSOR_BYTES_MAX} bytes; use patterns, several streams or a WebSocket"
            );
            return Err(Refusal::bad_field(ErrorCode::TooManyChannels, message));
        }
        for (at, channel) in names().enumerate() {
            let pattern = self.families().parse(&identity.tenant, channel);
            let pattern = pattern
                .map_err(|error| Refusal::bad_field(ErrorCode::InvalidChannel, format!("{channel:?}: {error}")))?;
            if !identity.may_subscribe(&pattern) {
                let message = format!("{channel:?}: {}", identity.why_not_subscribe(self.families(), &pattern));
                return Err(Refusal::forbidden(ErrorCode::Forbidden, message));
            }
            if names().take(at).any(|other| other == channel) {
                return Err(Refusal::bad_field(ErrorCode::AlreadySubscribed, format!("{channel:?} is named twice")));
            }
        }
        Ok(())
    }
}

/// A page's `GET` to its own origin has no `Origin` header.
fn is_same_origin(headers: &HeaderMap) -> bool {
    !headers.contains_key(ORIGIN) && headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin")
}

impl Query {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || {
                percent_decode(value)
                    .ok_or_else(|| Refusal::bad_request("the address has a broken percent escape, or is not UTF-8"))
            };
            let list = || {
                decoded()
                    .map(|list| list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>())
            };
            match name {
                "channels" => parsed.channels.append(&mut list()?),
                "presence" => parsed.presence.append(&mut list()?),
                "cursor" => parsed.cursor = Some(decoded()?),
                // Other parameters are ignored. Libraries append numbers to bypass caches.
                _ => {}
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests;
