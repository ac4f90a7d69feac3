//! The servers of a scenario: its own Redis and gateway, each on its cores. They end with the scenario.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{Process, ReservedPort, redis_server, token};

use crate::cores::Cores;
use crate::failure::Failure;
use crate::process::{await_listening, reserve_port, start};

/// Longer than any run of a scenario.
const TOKEN_LIFETIME_S: i64 = 3_600;

/// Time limit until a gateway is connected to Redis.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
const CONNECT_POLL: Duration = Duration::from_millis(20);

/// A running Redis and a running gateway.
pub(crate) struct BenchHarness {
    /// The gateway is dropped first. It would log errors if it lost its Redis.
    pub(crate) gateway: Process,
    pub(crate) redis: Process,
    pub(crate) redis_addr: SocketAddr,
    pub(crate) redis_url: String,
    /// The address to which clients connect.
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: Metrics,
    _ports: [ReservedPort; 3],
}

/// A token for `user`, which also permits the channels that `grants` cover.
pub(crate) fn sign_token(user: &str, grants: &[&str]) -> String {
    token::sign(&json!({ "sub": user, "exp": token::expiry(TOKEN_LIFETIME_S), "subscribe": grants }))
}

/// The address at which a gateway serves its metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metrics(SocketAddr);

impl Metrics {
    pub(crate) fn value(self, name: &str) -> Result<f64, Failure> {
        let text = get(self.0, "/metrics").map_err(Failure::io("asking for metrics"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse().ok());
        value.ok_or_else(|| Failure::Unmeasurable(format!("the gateway has no metric {name}")))
    }
}

impl BenchHarness {
    /// Starts Redis and the `gateway` binary on their cores, and waits until the gateway has Redis and its lease.
    /// `settings` are additional lines of its configuration.
    pub(crate) fn start(cores: &Cores, gateway: &Path, settings: &str) -> Result<Self, Failure> {
        let ports = [reserve_port()?, reserve_port()?, reserve_port()?];
        let [redis_addr, addr, admin] = ports.each_ref().map(ReservedPort::address);
        let command = redis_server::command(redis_addr.port(), &std::env::temp_dir());
        let mut redis = start("redis", &cores.clients, &command)?;
        await_listening(&mut redis, redis_addr)?;
        let redis_url = format!("redis://{redis_addr}");

        let file = ConfigFile::write(&config(addr, admin, &redis_url, settings))?;
        let mut command = Command::new(gateway);
        command.args(["serve", "--config"]).arg(file.path());
        let mut gateway = start("the gateway", &[cores.server], &command)?;
        await_listening(&mut gateway, addr)?;
        await_connected(&mut gateway, addr)?;
        Ok(Self { gateway, redis, redis_addr, redis_url, addr, metrics: Metrics(admin), _ports: ports })
    }

    /// Number of commands that Redis has executed, without this one.
    pub(crate) fn redis_calls(&self) -> Result<u64, Failure> {
        let ask = || -> redis::RedisResult<String> {
            redis::cmd("INFO").arg("stats").query(&mut redis::Client::open(self.redis_url.as_str())?.get_connection()?)
        };
        let text = ask().map_err(Failure::redis("INFO stats"))?;
        let calls = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse().ok());
        calls.ok_or_else(|| Failure::Unmeasurable("Redis does not count its commands".into()))
    }
}

/// Sends an HTTP request to one of the gateway's ports and returns the whole response.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(CONNECT_TIME_MAX))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A gateway listens before it is connected to Redis. Clients that connect in between receive `degraded`.
fn await_connected(gateway: &mut Process, addr: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + CONNECT_TIME_MAX;
    loop {
        gateway.check_alive()?;
        match get(addr, "/ws/health") {
            Ok(answer) if answer.contains("connected") => return Ok(()),
            answer if Instant::now() > deadline => {
                return Err(gateway.error(format!("is not connected after {CONNECT_TIME_MAX:?}: {answer:?}")).into());
            }
            _ => std::thread::sleep(CONNECT_POLL),
        }
    }
}

/// The default configuration, except for the addresses, the key, the log level and the connection rate. All clients may
/// connect at once: the bench measures the cost of a connect, not the wait for admission.
fn config(addr: SocketAddr, admin: SocketAddr, redis_url: &str, settings: &str) -> String {
    [
        "instance = \"loadtest\"",
        &format!("listen = \"{addr}\""),
        &format!("admin_listen = \"{admin}\""),
        "broker = \"redis\"",
        &format!("redis.url = \"{redis_url}\""),
        &format!("auth.keys = {}", token::keys()),
        "limits.connects_per_second = 0",
        "limits.connections_per_address = 1000000",
        "log.filter = \"warn\"",
        settings,
    ]
    .join("\n")
}

/// A file that is needed only until the gateway has read it.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tidegate-loadtest-{}.toml", std::process::id()));
        let file = Self(path);
        fs::write(&file.0, text).map_err(Failure::io(file.0.display().to_string()))?;
        Ok(file)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // The file is in the system's temporary directory, where it may remain.
        let _ = fs::remove_file(&self.0);
    }
}
