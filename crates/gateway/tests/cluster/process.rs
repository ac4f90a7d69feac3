//! A gateway in a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use test_support::ReservedPort;

use crate::client::DEADLINE;
use crate::fleet::SECRET;

/// Runs until dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    _ports: [ReservedPort; 2],
}

impl Process {
    /// Starts it with these settings, and on this Redis; without one it keeps messages in its memory.
    pub(crate) fn start(settings: &[&str], redis_url: Option<&str>) -> Self {
        let ports = [ReservedPort::take(), ReservedPort::take()].map(|port| port.expect("loopback has a free port"));
        let [listen, admin] = ports.each_ref().map(ReservedPort::address);
        let keys = format!("auth.keys=[{{ kid = 'test', algorithm = 'HS256', secret = '{SECRET}' }}]");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        for setting in settings.iter().copied().chain([&*keys]) {
            command.args(["--set", setting]);
        }
        match redis_url {
            Some(url) => command.args(["--redis-url", url]),
            None => command.args(["--set", "broker=memory"]),
        };
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("the binary was built for this test"), listen, admin, _ports: ports }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
        // The thread that takes the signal stops the others, and on a busy machine that is not at once.
        while name == "-STOP" && !self.is_stopped() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Whether each of its threads is, as far as this system tells.
    fn is_stopped(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return true };
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats.into_iter().all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
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
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
