//! PURE. Who may do what on the admin port: the one place that decides.
//!
//! The port is for operators and their programs, on an address that only they reach. Their browsers reach it too, and
//! a page of anybody runs in them. So the port does not answer a host name that somebody may have pointed at it (DNS
//! rebinding), a page of another site, and a change that a form could send.

use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderName};

use super::act::Act;
use crate::config::AdminHosts;
use crate::http::cross_site::is_cross_site;
use crate::http::fields::only;
use crate::http::refusal::Refusal;

/// The header of a request that changes something. A form cannot send it, and a page of another site cannot either
/// without asking first (CORS).
const ADMIN: HeaderName = HeaderName::from_static("x-tidegate-admin");

/// Decides about requests to the admin port.
#[derive(Debug)]
pub(crate) struct Authorisation {
    hosts: AdminHosts,
}

/// Who sent a request, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) &'static str);

impl Authorisation {
    pub(crate) fn new(hosts: AdminHosts) -> Self {
        Self { hosts }
    }

    /// Whether the sender of this request may have this done, and who it is.
    pub(super) fn authorise<B>(&self, request: &Request<B>, act: Act) -> Result<Caller, Refusal> {
        let headers = request.headers();
        if act.is_probe() {
            return Ok(Caller("anyone"));
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
        // The port itself is the credential: whoever reaches it is an operator.
        Ok(Caller("operator"))
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
    use super::*;

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
        let authorisation = Authorisation::new(AdminHosts::parse(&["*.internal.example".into()]).unwrap());
        let request = headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        authorisation.authorise(&request.body(()).unwrap(), act).map_err(|refusal| refusal.code)
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
                let expected = if act.is_probe() { Ok(Caller("anyone")) } else { Err(code) };
                assert_eq!(decide(act, headers), expected, "{act:?} {headers:?}");
            }
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
                    act if act.is_probe() => Ok(Caller("anyone")),
                    _ => Ok(Caller("operator")),
                };
                assert_eq!(decide(act, &[("host", host)]), expected, "{act:?} {host}");
            }
            let form = [("host", host), ("content-type", "application/x-www-form-urlencoded")];
            assert_eq!(decide(Act::Drain, &form), Err("admin_header_required"));
            let operator = [("host", host), ("x-tidegate-admin", "1")];
            assert_eq!(decide(Act::Drain, &operator), Ok(Caller("operator")));
            let own_page = [("host", host), ("x-tidegate-admin", "1"), ("sec-fetch-site", "same-origin")];
            assert_eq!(decide(Act::Drain, &own_page), Ok(Caller("operator")));
        }
        assert_eq!(decide(Act::Drain, &[("x-tidegate-admin", "1")]), Ok(Caller("operator")), "HTTP/1.0, no browser");
    }
}
