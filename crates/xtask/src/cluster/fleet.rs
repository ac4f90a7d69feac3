//! The processes of a cluster: ports, start, readiness and end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::haproxy::{self, Backend, GATEWAYS, Listeners, Server};
use test_support::{EndOrder, ProcessSupervisor, ReservedPort, process, redis_server};

use super::member::Member;
use crate::failure::Failure;
use crate::{http, program};

/// A process that is not ready within this time has failed.
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// The listening addresses of one gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    agent: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) redis: SocketAddr,
    pub(crate) gateways: [Addresses; GATEWAYS],
    /// The two listening addresses of HAProxy: for clients, and for its statistics.
    pub(crate) entrance: SocketAddr,
    pub(crate) statistics: SocketAddr,
    /// Directory for logs and all other files that a process writes.
    pub(crate) dir: PathBuf,
    /// Redis, the gateways and HAProxy, in the order in which they were started.
    pub(crate) members: Vec<Member>,
    supervisor: ProcessSupervisor,
    _ports: Vec<ReservedPort>,
    recipe: Recipe,
}

/// The settings with which all gateways are started.
#[derive(Debug)]
struct Recipe {
    binary: PathBuf,
    /// The key with which all gateways sign tokens.
    key: String,
    settings: Vec<(String, String)>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts the whole cluster. Returns when HAProxy sends clients to every gateway, or when `stop` is set. `settings`
    /// are additional variables for the gateways.
    pub(crate) fn start(
        binary: &Path,
        dir: &Path,
        settings: &[(&str, &str)],
        stop: &AtomicBool,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(Failure::during(format_args!("making {}", dir.display())))?;
        let ports = (0..3 + 3 * GATEWAYS).map(|_| ReservedPort::take()).collect::<Result<Vec<_>, _>>();
        let ports = ports.map_err(Failure::during("binding a free port"))?;
        let address = |index: usize| ports[index].address();
        let gateway = |index: usize| {
            let first = 3 + 3 * index;
            Addresses { clients: address(first), admin: address(first + 1), agent: address(first + 2) }
        };
        let key = random_key().map_err(Failure::during("reading /dev/urandom"))?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut fleet = Self {
            redis: address(0),
            entrance: address(1),
            statistics: address(2),
            gateways: std::array::from_fn(gateway),
            dir: dir.to_owned(),
            members: Vec::new(),
            supervisor: ProcessSupervisor::start().map_err(Failure::during("starting the process supervisor"))?,
            _ports: ports,
            recipe: Recipe { binary: binary.to_owned(), key, settings },
        };
        fleet.launch("redis", redis_server::command(fleet.redis.port(), dir), EndOrder::Base)?;
        fleet.until("Redis answers", stop, |fleet| is_redis_ready(fleet.redis))?;
        for index in 0..GATEWAYS {
            fleet.launch(&gateway_name(index), fleet.gateway_command(index), EndOrder::Front)?;
        }
        for index in 0..GATEWAYS {
            let admin = fleet.gateways[index].admin;
            let what = format!("{} is ready", gateway_name(index));
            fleet.until(&what, stop, |_| http::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200))?;
        }
        fleet.launch("haproxy", fleet.haproxy_command(), EndOrder::Front)?;
        fleet.until("HAProxy knows every gateway", stop, |fleet| {
            (1..=GATEWAYS).all(|number| fleet.server(number).is_some_and(|server| server.status == "UP"))
        })?;
        Ok(fleet)
    }

    /// Restarts gateway `number`, counted from 1, after it has ended. Returns when HAProxy sends it clients.
    pub(crate) fn start_again(&mut self, number: usize) -> Result<(), Failure> {
        let name = gateway_name(number - 1);
        let goes_on = AtomicBool::new(false);
        let deadline = Instant::now() + READY_WITHIN;
        while !self.members.iter_mut().any(|member| {
            member.name == name && {
                member.exit_status();
                member.has_ended()
            }
        }) {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{name} has not ended within {READY_WITHIN:?}")));
            }
            thread::sleep(POLL);
        }
        let ended = self.members.extract_if(.., |member| member.name == name);
        for member in ended {
            self.supervisor.forget(member.pid()).map_err(Failure::during("forgetting a member"))?;
        }
        self.launch(&name, self.gateway_command(number - 1), EndOrder::Front)?;
        let admin = self.gateways[number - 1].admin;
        self.until(&format!("{name} is back"), &goes_on, |fleet| {
            let is_ready = http::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200);
            is_ready && fleet.server(number).is_some_and(|server| server.status == "UP")
        })
    }

    /// Returns the members that have ended since the last call.
    pub(crate) fn exited(&mut self) -> Vec<(String, ExitStatus)> {
        let mut exited = Vec::new();
        for member in &mut self.members {
            if let Some(status) = member.exit_status() {
                // If the process supervisor has ended, it has ended every child already.
                let _ = self.supervisor.forget(member.pid());
                exited.push((member.name.clone(), status));
            }
        }
        exited
    }

    /// Ends every process and waits for its exit.
    pub(crate) fn end(&mut self) {
        self.supervisor.release();
        while !self.supervisor.is_done() || self.members.iter().any(|member| !member.has_ended()) {
            for member in &mut self.members {
                member.exit_status();
            }
            thread::sleep(POLL);
        }
    }

    /// The state of gateway `number`, counted from 1, in the statistics of HAProxy.
    pub(crate) fn server(&self, number: usize) -> Option<Server> {
        let servers = haproxy::servers(self.statistics).ok()?;
        servers.get(number.checked_sub(1)?).cloned()
    }

    /// Polls until `done` is true. Fails if a member ends, if the time limit passes, or if `stop` is set.
    fn until(&mut self, what: &str, stop: &AtomicBool, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        while !done(self) {
            if let Some((name, status)) = self.exited().into_iter().next() {
                let words = self.members.iter().find(|member| member.name == name).map(Member::last_log_lines);
                return Err(Failure::new(format!(
                    "{name} ended ({status}) before {what}; its last words:\n{}",
                    words.unwrap_or_default()
                )));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::new("told to stop while starting"));
            }
            if Instant::now() > deadline {
                let dir = self.dir.display();
                return Err(Failure::new(format!("waited {READY_WITHIN:?} until {what}; the logs are in {dir}")));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn launch(&mut self, name: &str, command: Command, end_order: EndOrder) -> Result<(), Failure> {
        let member = Member::start(name, command, &self.dir, end_order, &mut self.supervisor)?;
        self.members.push(member);
        Ok(())
    }

    fn gateway_command(&self, index: usize) -> Command {
        let Addresses { clients, admin, agent } = self.gateways[index];
        let Recipe { binary, key, settings } = &self.recipe;
        let mut command = process::tidegate(binary);
        command
            .args(["serve", "--dev"])
            // The log goes to a file, so colours are off.
            .env("NO_COLOR", "1")
            .env("TIDEGATE_INSTANCE", gateway_name(index))
            .env("TIDEGATE_LISTEN", clients.to_string())
            .env("TIDEGATE_ADMIN_LISTEN", admin.to_string())
            .env("TIDEGATE_AGENT_LISTEN", agent.to_string())
            .env("TIDEGATE_REDIS_URL", format!("redis://{}", self.redis))
            // All gateways use one key, so that a token from one instance is valid on every other instance.
            .env("TIDEGATE_AUTH_KEYS", format!(r#"[{{ kid = "cluster", algorithm = "HS256", secret = "{key}" }}]"#))
            .envs(settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn haproxy_command(&self) -> Command {
        let listeners = Listeners { clients: self.entrance, statistics: self.statistics };
        let backend = |gateway: Addresses| Backend { address: gateway.clients, agent_port: gateway.agent.port() };
        let program = program::find("haproxy").unwrap_or_else(|| "haproxy".into());
        haproxy::command(&program, &self.dir, listeners, &self.gateways.map(backend))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

fn gateway_name(index: usize) -> String {
    format!("gateway{}", index + 1)
}

/// 256 random bits in hexadecimal. They need no quoting.
fn random_key() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_redis_ready(address: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}
