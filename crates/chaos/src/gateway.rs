//! One gateway process.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_support::haproxy::Backend;
use test_support::{Process, ReservedPort, token};
use tokio::time::{Instant, sleep};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::load;
use crate::process::{self, reserve_port};

const START_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    agent: SocketAddr,
    pub(crate) process: Process,
    _ports: [ReservedPort; 3],
    command: Command,
    log: PathBuf,
}

/// The settings with which a gateway is started.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) program: &'a Path,
    pub(crate) fault: Fault,
    pub(crate) directory: &'a Path,
    /// Words before the program's name, for example a wrapper program.
    pub(crate) prefix: Vec<String>,
    /// The address on which the gateway listens.
    pub(crate) host: IpAddr,
}

impl<'a> Setting<'a> {
    /// The settings of most gateways in a run of this fault.
    pub(crate) fn new(fault: Fault, environment: &'a Environment, directory: &'a Path) -> Self {
        let (program, host) = (environment.gateway.as_path(), Ipv4Addr::LOCALHOST.into());
        Self { program, fault, directory, prefix: Vec::new(), host }
    }
}

impl Gateway {
    /// Starts a gateway. `redis` is the URL of its Redis.
    pub(crate) fn start(name: &str, redis: &str, setting: Setting<'_>) -> Result<Self, Failure> {
        let Setting { program, fault, directory, prefix, host } = setting;
        let command = process::behind(&prefix, Command::new(program));
        let text = |listeners| configuration(name, listeners, redis, fault);
        Self::launch(name, command, host, directory, text)
    }

    /// Starts a gateway with the configuration that `text` makes from the client address and the admin address.
    pub(crate) fn start_with(
        name: &str,
        program: &Path,
        directory: &Path,
        text: impl FnOnce(SocketAddr, SocketAddr) -> String,
    ) -> Result<Self, Failure> {
        let text = |[address, admin, _]: [SocketAddr; 3]| text(address, admin);
        Self::launch(name, Command::new(program), Ipv4Addr::LOCALHOST.into(), directory, text)
    }

    fn launch(
        name: &str,
        mut command: Command,
        host: IpAddr,
        directory: &Path,
        text: impl FnOnce([SocketAddr; 3]) -> String,
    ) -> Result<Self, Failure> {
        let ports = [reserve_port()?, reserve_port()?, reserve_port()?];
        let listeners = ports.each_ref().map(|port| SocketAddr::new(host, port.number()));
        let [address, admin, agent] = listeners;
        let (config, log) = (directory.join(format!("{name}.toml")), directory.join(format!("{name}.log")));
        let (name, text) = (name.to_owned(), text(listeners));
        std::fs::write(&config, text).map_err(Failure::io(config.display().to_string()))?;
        command.args(["serve", "--config"]).arg(&config);
        let process = process::start(&name, &command, &log)?;
        Ok(Self { name, address, admin, agent, process, _ports: ports, command, log })
    }

    /// Restarts the gateway at the same addresses.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = process::start(&self.name, &self.command, &self.log)?;
        Ok(())
    }

    /// Waits until the gateway is connected to its Redis.
    pub(crate) async fn await_connected(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME_MAX;
        while !self.is_connected() {
            self.process.check_alive()?;
            if Instant::now() > deadline {
                return Err(Failure::Late(format!("{} is connected", self.name)));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.active().contains("connected")
    }

    /// The state that the gateway reports, or an empty string if it does not answer.
    pub(crate) fn active(&self) -> String {
        get(self.address, "/ws/health").unwrap_or_default()
    }

    /// The gateway as a backend of HAProxy.
    pub(crate) fn backend(&self) -> Backend {
        Backend { address: self.address, agent_port: self.agent.port() }
    }

    /// Number of clients that are connected to the gateway.
    pub(crate) fn connections(&self) -> u64 {
        self.metric("tidegate_connections").unwrap_or(0)
    }

    /// The current value of one metric, summed over all shards.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let text = get(self.admin, "/metrics").ok()?;
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with([' ', '{']);
            rest.rsplit(' ').next().filter(|_| is_it)?.parse::<u64>().ok()
        };
        Some(text.lines().filter_map(value).sum())
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The default configuration with other addresses, with families that keep everything a run publishes and refuse what
/// they cannot store, and with shorter waits, because a run lasts only seconds.
fn configuration(name: &str, listeners: [SocketAddr; 3], redis: &str, fault: Fault) -> String {
    let (local, has_slow_readers) = (fault.local(), fault.has_slow_readers());
    let [address, admin, agent] = listeners;
    let family = |family: &str, more: &str| {
        let isolation = if local.contains(&family) { "local" } else { "read_only" };
        format!(
            "[[families]]\nname = \"{family}\"\nhistory_entries_max = 200000\non_isolation = \"{isolation}\"\n{more}\n"
        )
    };
    [
        format!(
            "instance = \"{name}\"\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\nagent_listen = \"{agent}\"\n\
             broker = \"redis\"\nshards = 2"
        ),
        format!("redis.url = \"{redis}\"\nredis.probe_interval_ms = 300\nredis.reply_deadline_ms = 1200"),
        format!("auth.keys = {}", token::keys()),
        "limits.messages_per_second = 1000\nlimits.messages_burst = 1000".into(),
        // The outbox is small enough for slow clients to fall behind within a run, and as large as one page of their
        // history.
        if has_slow_readers { "limits.message_bytes_max = 32768\nlimits.outbox_bytes_max = 131072" } else { "" }.into(),
        "limits.ping_interval_ms = 2000\nlimits.pong_timeout_ms = 1900".into(),
        family("collection", "ttl_ms = 86400000"),
        family("system", "ttl_ms = 86400000"),
        family(load::NEWEST, "ttl_ms = 86400000\non_slow = \"latest\""),
        family(load::CLOSING, "ttl_ms = 86400000\non_slow = \"close\""),
        family("user", ""),
    ]
    .join("\n")
}
