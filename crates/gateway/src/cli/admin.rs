//! `tidegate health` and `tidegate drain`: one HTTP request, written without a client library.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use tidegate_gateway::config::{HealthConfig, Problems, RawConfig};

use super::{AdminArgs, ConfigArgs, DrainArgs, Exit, running};

/// Longest time to connect, and longest time to wait for the reply. A gateway that needs longer counts as not alive.
/// Container health checks give up later.
const DEADLINE: Duration = Duration::from_secs(2);

/// Largest reply that is read, in bytes. A gateway's reply is smaller.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;

pub(crate) fn health(args: AdminArgs) -> Exit {
    let request = AdminRequest { method: "GET", path: "/livez", token: None };
    ask_admin(args, request, "200", |answer| match answer.instance_state.as_deref() {
        // A restart does not help, so the gateway counts as alive. It serves nobody who depends on other instances.
        Some("connecting") => {
            let reason = answer.reason.as_deref().unwrap_or("the first attempt has not ended");
            Exit::Failure.because(format_args!("alive, and has never reached Redis: {reason}"))
        }
        Some(instance_state) => Exit::Ok.telling(format_args!("{instance_state}\n")),
        // The URL has another path than `/livez`, so the reply has no instance state.
        None => Exit::Ok,
    })
}

/// Asks the gateway to drain. Does not wait for the end of the drain.
pub(crate) fn drain(DrainArgs { at, token_file }: DrainArgs) -> Exit {
    let token = match token_file.as_ref().map(std::fs::read_to_string).transpose() {
        Ok(token) => token.map(|token| token.trim().to_owned()),
        Err(error) => return Exit::Usage.because(format_args!("--token-file: {error}")),
    };
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Exit::Usage.because("--token-file: this is not a token");
    }
    ask_admin(at, AdminRequest { method: "POST", path: "/drain", token }, "202", |_| Exit::Ok)
}

/// A request to the admin port.
struct AdminRequest {
    method: &'static str,
    /// Used if the URL of the command line has no path.
    path: &'static str,
    token: Option<String>,
}

/// Sends the request to the URL of the command line, or else to the gateway of the configuration.
fn ask_admin(args: AdminArgs, request: AdminRequest, good: &str, tell: impl FnOnce(AdminReply) -> Exit) -> Exit {
    let url = match args.url {
        Some(url) => url,
        None => match admin_address(args.config) {
            Ok(address) => format!("http://{}", reachable(address)),
            Err(problems) => return Exit::Usage.because(problems),
        },
    };
    let Some((authority, path)) = split_url(&url, request.path) else {
        return Exit::Usage.because(format_args!("{url:?} is not a URL such as http://127.0.0.1:9090"));
    };
    let url = format!("http://{authority}{path}");
    match ask(&request, authority, path) {
        Ok(answer) if answer.status == good => tell(answer),
        Ok(AdminReply { status, reason: Some(why), .. } | AdminReply { status, message: Some(why), .. }) => {
            Exit::Failure.because(format_args!("{url} answered {status}: {why}"))
        }
        Ok(answer) => Exit::Failure.because(format_args!("{url} answered {}", answer.status)),
        Err(error) => Exit::Failure.because(format_args!("{url} does not answer: {error}")),
    }
}

/// The admin address of the gateway on this machine. It may have been started with flags, so the running process knows
/// better than the environment; flags of this command know best.
fn admin_address(args: ConfigArgs) -> Result<SocketAddr, Problems> {
    let is_silent = args.is_empty();
    let config = HealthConfig::check(&RawConfig::gather(args.sources([])))?;
    let found = if is_silent { running::admin_address(config.is_default) } else { None };
    Ok(found.unwrap_or(config.admin_listen))
}

/// Replaces a wildcard address by the loopback address, which is reachable from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Splits an HTTP URL into host with port and path. The path is `default` if the URL has none.
fn split_url<'u>(url: &'u str, default: &'u str) -> Option<(&'u str, &'u str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_clean = !authority.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    is_clean.then_some((authority, if path.is_empty() { default } else { path }))
}

struct AdminReply {
    status: String,
    /// The instance state that the gateway reports.
    instance_state: Option<String>,
    /// Why the gateway refuses.
    message: Option<String>,
    /// Why it is not connected to Redis.
    reason: Option<String>,
}

fn ask(request: &AdminRequest, authority: &str, path: &str) -> io::Result<AdminReply> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let address = with_port.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // The gateway expects this header with every change: a page cannot send it.
    let authorization = request.token.as_ref().map(|token| format!("\r\nAuthorization: Bearer {token}"));
    let (method, authorization) = (request.method, authorization.unwrap_or_default());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nX-Tidegate-Admin: cli{authorization}");
    let request = format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.ok_or_else(|| io::Error::other("the reply is not HTTP"))?.to_owned();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    Ok(AdminReply { status, instance_state: text("state"), message: text("message"), reason: text("reason") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_and_wildcard_addresses_made_reachable() {
        let split = |url| split_url(url, "/livez");
        assert_eq!(split("http://127.0.0.1:9090/readyz"), Some(("127.0.0.1:9090", "/readyz")));
        assert_eq!(split("http://gateway"), Some(("gateway", "/livez")));
        assert!(["https://a/", "http:///livez", "http://a/ b", "a:80/"].into_iter().all(|url| split(url).is_none()));
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()).to_string(), "10.0.0.1:1");
    }
}
