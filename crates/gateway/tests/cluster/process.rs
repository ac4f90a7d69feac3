//! A gateway in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use test_support::process::tidegate;
use test_support::{ReservedPort, token};

use crate::client::DEADLINE;

/// Runs until dropped.
pub(crate) struct Process {
    pub(crate) child: test_support::Process,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    _ports: [ReservedPort; 2],
    log: PathBuf,
}

impl Process {
    /// Starts it with these settings, and on this Redis; without one it keeps messages in its memory.
    pub(crate) fn start(settings: &[&str], redis_url: Option<&str>) -> Self {
        let keys = format!("auth.keys={}", token::keys());
        let mut command = tidegate(env!("CARGO_BIN_EXE_tidegate"));
        for setting in settings.iter().copied().chain([&*keys]) {
            command.args(["--set", setting]);
        }
        match redis_url {
            Some(url) => command.args(["--redis-url", url]),
            None => command.args(["--set", "broker=memory"]),
        };
        Self::launch(command)
    }

    /// Starts it with this configuration file, which says everything but its addresses.
    pub(crate) fn start_on(file: &Path) -> Self {
        let mut command = tidegate(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("--config").arg(file);
        Self::launch(command)
    }

    fn launch(mut command: Command) -> Self {
        let ports = [ReservedPort::take(), ReservedPort::take()].map(|port| port.expect("loopback has a free port"));
        let [listen, admin] = ports.each_ref().map(ReservedPort::address);
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        static LOGS: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-{}-{}.log", std::process::id(), LOGS.fetch_add(1, Ordering::Relaxed));
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let stderr = File::create(&log).expect("the build directory is writable");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = test_support::Process::start("a gateway", &mut command);
        Self { child: child.expect("the binary was built for this test"), listen, admin, _ports: ports, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it was created before the process")
    }

    pub(crate) fn is(&self, state: &str) -> bool {
        is(self.admin, state)
    }

    /// The value of a metric; none while the gateway does not answer.
    pub(crate) fn number(&self, line_begins: &str) -> Option<f64> {
        number(self.admin, line_begins)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
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
