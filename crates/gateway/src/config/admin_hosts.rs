//! The names by which the admin port may be addressed: `admin.allowed_hosts`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Names that nobody but the operator can point at the admin port. Addresses, `localhost`, and names of one part, such
/// as those of containers, need no rule: nobody can register them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdminHosts {
    exact: Vec<String>,
    /// Domains whose subdomains are allowed, each with a dot before it.
    subdomains: Vec<String>,
}

impl AdminHosts {
    /// Parses the list of `admin.allowed_hosts`. The error is what is expected instead of the first wrong rule.
    pub(crate) fn parse(rules: &[String]) -> Result<Self, String> {
        let mut hosts = Self::default();
        for rule in rules {
            let name = rule.strip_prefix("*.").unwrap_or(rule);
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !is_name || name.is_empty() || name.split('.').any(str::is_empty) {
                let shape = "a host name without scheme and port, as in gateway.example.com or *.example.com";
                return Err(format!("{shape}, instead of {rule:?}"));
            }
            match rule.strip_prefix('*') {
                Some(suffix) => hosts.subdomains.push(suffix.to_ascii_lowercase()),
                None => hosts.exact.push(name.to_ascii_lowercase()),
            }
        }
        Ok(hosts)
    }

    /// Whether a request whose header `Host` is `host` may be answered.
    pub(crate) fn allow(&self, host: &str) -> bool {
        let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            _ => host,
        };
        if let Some(address) = name.strip_prefix('[') {
            return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_single = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_single
            || name.parse::<Ipv4Addr>().is_ok()
            || self.exact.contains(&name)
            || self.subdomains.iter().any(|suffix| name.strip_suffix(&**suffix).is_some_and(|part| !part.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rules: &[&str]) -> Result<AdminHosts, String> {
        AdminHosts::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_that_anybody_can_register_need_a_rule() {
        let none = parse(&[]).unwrap();
        for host in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:80",
            "[::1]",
            "[fd00::1]:9090",
            "localhost",
            "LOCALHOST:1",
            "gateway-1:9090",
            "tidegate_1",
        ] {
            assert!(none.allow(host), "{host}");
        }
        for host in [
            "",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[::1].evil.example",
            "[evil.example]",
            "evil.example:",
            "a@b",
            "web1.example.com",
            "0x7f.1",
            "gateway:port",
        ] {
            assert!(!none.allow(host), "{host}");
        }
        let some = parse(&["Web1.example.com", "*.svc.cluster.local"]).unwrap();
        for host in
            ["web1.example.com", "WEB1.EXAMPLE.COM:9090", "web1.example.com.", "gw-0.gw.ns.svc.cluster.local:9090"]
        {
            assert!(some.allow(host), "{host}");
        }
        for host in [
            "web2.example.com",
            "a.web1.example.com",
            "svc.cluster.local",
            "xsvc.cluster.local",
            ".svc.cluster.local.evil.example",
        ] {
            assert!(!some.allow(host), "{host}");
        }
    }

    #[test]
    fn a_rule_that_no_request_can_match_is_refused() {
        for rule in
            ["", "*", "*.", "http://web1", "web1:9090", "a/b", "a..b", ".example.com", "b\u{fc}cher.example", "*.*.com"]
        {
            let error = parse(&["ok.example.com", rule]).expect_err(rule);
            assert!(error.contains(&format!("{rule:?}")), "{error}");
        }
    }
}
