//! A gateway in a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use test_support::process::tidegate;
use test_support::{ReservedPort, token};

use crate::client::DEADLINE;

/// Runs until dropped.
pub(crate) struct Process {
    pub(crate) child: test_support::Process,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    _ports: [ReservedPort; 2],
}

impl Process {
    /// Starts it with these settings, and on this Redis; without one it keeps messages in its memory.
    pub(crate) fn start(settings: &[&str], redis_url: Option<&str>) -> Self {
        let ports = [ReservedPort::take(), ReservedPort::take()].map(|port| port.expect("loopback has a free port"));
        let [listen, admin] = ports.each_ref().map(ReservedPort::address);
        let keys = format!("auth.keys={}", token::keys());
        let mut command = tidegate(env!("CARGO_BIN_EXE_tidegate"));
        for setting in settings.iter().copied().chain([&*keys]) {
            command.args(["--set", setting]);
        }
        match redis_url {
            Some(url) => command.args(["--redis-url", url]),
            None => command.args(["--set", "broker=memory"]),
        };
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = test_support::Process::start("a gateway", &mut command);
        Self { child: child.expect("the binary was built for this test"), listen, admin, _ports: ports }
    }

    pub(crate) fn is(&self, state: &str) -> bool {
        is(self.admin, state)
    }

    /// The value of a metric; none while the gateway does not answer.
    pub(crate) fn number(&self, line_begins: &str) -> Option<f64> {
        number(self.admin, line_begins)
    }
}

/// All metrics; none while the gateway does not answer.
pub(crate) fn metrics(admin: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The value of a metric; none while the gateway does not answer.
pub(crate) fn number(admin: SocketAddr, line_begins: &str) -> Option<f64> {
    metrics(admin)?.lines().find_map(|line| line.strip_prefix(line_begins)?.trim().parse().ok())
}

pub(crate) fn is(admin: SocketAddr, state: &str) -> bool {
    number(admin, &format!("tidegate_instance_state{{state=\"{state}\"}}")) == Some(1.0)
}
