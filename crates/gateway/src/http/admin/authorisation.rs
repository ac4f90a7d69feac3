//! PURE. Who may do what on the admin port: the one place that decides.
//!
//! The port is for operators and their programs, on an address that only they reach. Service tokens say who they are and
//! what they may do. Their browsers reach the port too, and a page of anybody runs in them. So the port does not answer
//! a host name that somebody may have pointed at it (DNS rebinding), a page of another site, and a change that a form
//! could send.

use std::borrow::Cow;

use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderName};
use wire::ErrorCode;

use super::act::Act;
use crate::auth::permission::Permission;
use crate::auth::token::{Service, Verifier};
use crate::config::AdminHosts;
use crate::host::reloadable::Reloadable;
use crate::http::cross_site::is_cross_site;
use crate::http::fields::only;
use crate::http::handshake::bearer;
use crate::http::refusal::Refusal;

/// The header of a request that changes something. A form cannot send it, and a page of another site cannot either
/// without asking first (CORS).
const ADMIN: HeaderName = HeaderName::from_static("x-tidegate-admin");

/// Decides about requests to the admin port.
#[derive(Debug)]
pub(crate) struct Authorisation {
    hosts: AdminHosts,
    verifier: Reloadable<Verifier>,
    /// Whether a request needs a service token.
    requires_token: bool,
}

/// Who sent a request, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Cow<'static, str>);

impl Authorisation {
    /// `verifier` checks service tokens.
    pub(crate) fn new(hosts: AdminHosts, verifier: Reloadable<Verifier>, requires_token: bool) -> Self {
        Self { hosts, verifier, requires_token }
    }

    /// Whether the sender of this request may have this done, and who it is.
    pub(super) fn authorise<B>(&self, request: &Request<B>, act: Act, now_unix_s: u64) -> Result<Caller, Refusal> {
        let headers = request.headers();
        if act.is_probe() {
            return Ok(Caller("anyone".into()));
        }
        if !self.is_own_name(headers) {
            return Err(Refusal::foreign_host());
        }
        if is_cross_site(headers) {
            return Err(Refusal::cross_site());
        }
        if act.is_change() && !headers.contains_key(ADMIN) {
            return Err(Refusal::no_admin_header());
        }
        let Some(permission) = act.permission() else { return Ok(Caller("operator".into())) };
        match bearer(headers) {
            Some(token) => self.authorise_service(token, permission, now_unix_s),
            None if self.requires_token => {
                let scope = permission.as_str();
                let message = format!("this needs a service token with the scope {scope}, in Authorization: Bearer");
                Err(Refusal::unauthorized(ErrorCode::Unauthenticated, message))
            }
            // The port itself is the credential: everybody who reaches it is an operator.
            None => Ok(Caller("operator".into())),
        }
    }

    /// A token that is sent counts, whether it is required or not: it never permits more than its scopes.
    fn authorise_service(&self, token: &[u8], permission: Permission, now_unix_s: u64) -> Result<Caller, Refusal> {
        let token = str::from_utf8(token).unwrap_or_default();
        match self.verifier.get().verify_service(token, now_unix_s) {
            Ok(Service { name, permissions }) if permissions.contain(permission) => Ok(Caller(name.into())),
            Ok(_) => {
                let scope = permission.as_str();
                let message = format!(
                    "the token does not have the scope {scope}, or its key may not confer it (auth.keys[].scopes)"
                );
                Err(Refusal::forbidden(ErrorCode::Forbidden, message))
            }
            Err(error) => Err(Refusal::of(error.code(), error.to_string())),
        }
    }

    /// Whether the request was sent to an address or a name that nobody else can have pointed here. Browsers always
    /// send the name.
    fn is_own_name(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(HOST) {
            return true;
        }
        only(headers, &HOST).and_then(|host| str::from_utf8(host).ok()).is_some_and(|host| self.hosts.allow(host))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::key::Key;
    use crate::auth::permission::Permissions;
    use crate::auth::signed::{NOW, SECRET, claims, hs256_with, with};
    use crate::auth::token::Policy;

    const ACTS: [Act; 7] = [
        Act::Livez,
        Act::Readyz,
        Act::Metrics,
        Act::ListConnections,
        Act::ListDeadLetters,
        Act::ListReceipts,
        Act::Drain,
    ];

    fn decide(act: Act, headers: &[(&str, &str)]) -> Result<Caller, &'static str> {
        decide_with(false, act, headers)
    }

    fn decide_with(requires_token: bool, act: Act, headers: &[(&str, &str)]) -> Result<Caller, &'static str> {
        let hosts = AdminHosts::parse(&["*.internal.example".into()]).unwrap();
        let keys = [("users", &[][..]), ("ops", &["admin:read", "admin:drain"]), ("metrics", &["admin:read"])];
        let keys = keys.map(|(kid, scopes)| {
            Key::hs256(Some(kid.into()), SECRET).unwrap().permitting(Permissions::of(scopes.iter().copied()))
        });
        let verifier = Verifier::new(keys.into(), Policy::default(), wire::Families::default());
        let authorisation = Authorisation::new(hosts, Reloadable::new(verifier), requires_token);
        let request = headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        authorisation.authorise(&request.body(()).unwrap(), act, NOW).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_page_elsewhere_may_have_nothing_done() {
        for (headers, code) in [
            (&[("host", "evil.example")][..], "foreign_host"),
            (&[("host", "evil.example:9090"), ("x-tidegate-admin", "1")], "foreign_host"),
            (&[("host", "127.0.0.1"), ("host", "evil.example"), ("x-tidegate-admin", "1")], "foreign_host"),
            (&[("host", ""), ("x-tidegate-admin", "1")], "foreign_host"),
            (&[("host", "127.0.0.1:9090"), ("origin", "https://evil.example")], "cross_site"),
            (&[("host", "127.0.0.1:9090"), ("origin", "null"), ("x-tidegate-admin", "1")], "cross_site"),
            (&[("host", "127.0.0.1:9090"), ("sec-fetch-site", "cross-site"), ("x-tidegate-admin", "1")], "cross_site"),
            (&[("host", "localhost:9090"), ("sec-fetch-site", "same-site")], "cross_site"),
        ] {
            for act in ACTS {
                let expected = if act.is_probe() { Ok(Caller("anyone".into())) } else { Err(code) };
                assert_eq!(decide(act, headers), expected, "{act:?} {headers:?}");
            }
        }
    }

    #[test]
    fn a_service_token_permits_its_scopes_as_far_as_its_key_may() {
        let token = |kid: &str, more: Value| {
            hs256_with(&json!({ "alg": "HS256", "kid": kid }), &with(claims("deploy"), more), SECRET)
        };
        let (both, name) = (json!({ "scope": "openid admin:read admin:drain" }), "default/deploy");
        let read = json!({ "scope": "admin:read", "tenant": "acme" });
        let expired = with(both.clone(), json!({ "exp": NOW - 1 }));
        for (token, reads, drains) in [
            (token("ops", both.clone()), Ok(name), Ok(name)),
            (token("ops", read.clone()), Ok("acme/deploy"), Err("forbidden")),
            (token("metrics", both.clone()), Ok(name), Err("forbidden")),
            (token("users", both.clone()), Err("forbidden"), Err("forbidden")),
            (token("ops", json!({})), Err("forbidden"), Err("forbidden")),
            (token("ops", json!({ "scope": ["admin:read"] })), Err("unauthenticated"), Err("unauthenticated")),
            (token("ops", expired), Err("token_expired"), Err("token_expired")),
            (token("nobody", both.clone()), Err("unauthenticated"), Err("unauthenticated")),
            ("forged".into(), Err("unauthenticated"), Err("unauthenticated")),
            (String::new(), Err("unauthenticated"), Err("unauthenticated")),
        ] {
            let authorization = format!("Bearer {token}");
            let headers = [("host", "127.0.0.1"), ("x-tidegate-admin", "1"), ("authorization", &*authorization)];
            for requires_token in [false, true] {
                let decide = |act| decide_with(requires_token, act, &headers).map(|caller| caller.0.into_owned());
                let expected = |outcome: Result<&str, &'static str>| outcome.map(str::to_owned);
                assert_eq!(decide(Act::ListConnections), expected(reads), "{token}");
                assert_eq!(decide(Act::Drain), expected(drains), "{token}");
            }
        }
    }

    #[test]
    fn where_a_token_is_required_only_probes_and_metrics_go_without() {
        let headers = [("host", "127.0.0.1"), ("x-tidegate-admin", "1"), ("authorization", "Basic b3BzOm9wcw==")];
        for act in ACTS {
            let expected = match act {
                Act::Livez | Act::Readyz => Ok(Caller("anyone".into())),
                Act::Metrics => Ok(Caller("operator".into())),
                _ => Err("unauthenticated"),
            };
            assert_eq!(decide_with(true, act, &headers), expected, "{act:?}");
        }
    }

    #[test]
    fn an_operator_reads_freely_and_changes_with_a_header_that_a_form_cannot_send() {
        for host in
            ["127.0.0.1:9090", "[::1]:9090", "10.0.0.7:9090", "localhost", "gateway1:9090", "a.internal.example"]
        {
            for act in ACTS {
                let expected = match act {
                    Act::Drain => Err("admin_header_required"),
                    act if act.is_probe() => Ok(Caller("anyone".into())),
                    _ => Ok(Caller("operator".into())),
                };
                assert_eq!(decide(act, &[("host", host)]), expected, "{act:?} {host}");
            }
            let form = [("host", host), ("content-type", "application/x-www-form-urlencoded")];
            assert_eq!(decide(Act::Drain, &form), Err("admin_header_required"));
            let operator = [("host", host), ("x-tidegate-admin", "1")];
            assert_eq!(decide(Act::Drain, &operator), Ok(Caller("operator".into())));
            let own_page = [("host", host), ("x-tidegate-admin", "1"), ("sec-fetch-site", "same-origin")];
            assert_eq!(decide(Act::Drain, &own_page), Ok(Caller("operator".into())));
        }
        assert_eq!(
            decide(Act::Drain, &[("x-tidegate-admin", "1")]),
            Ok(Caller("operator".into())),
            "HTTP/1.0, no browser"
        );
    }
}
