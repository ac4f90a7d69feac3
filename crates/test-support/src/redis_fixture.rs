//! A Redis for one test, on a reserved port of loopback, in memory unless the test asks otherwise.
//!
//! This fixture is only for tests: a failure to start is a panic that names what to install. [`SentinelSet`] is a
//! primary with a replica, and three Sentinels that watch them. A [`StagedSentinel`] gives the answers that a test
//! sets. [`RedisCluster`] is three primaries that share the slots.

mod cluster;
mod sentinel;
mod staged_sentinel;
mod tls_port;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{Process, ReservedPort, redis_server};

pub use self::cluster::RedisCluster;
pub use self::sentinel::SentinelSet;
pub use self::staged_sentinel::StagedSentinel;
pub use self::tls_port::TlsPort;

/// The name of the primary in the Sentinels' configuration.
const SENTINEL_MASTER: &str = "main";
/// Redis starts in well under a second. A busy machine takes longer.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills the process and removes its files.
#[derive(Debug)]
pub struct RedisServer {
    pub process: Process,
    port: ReservedPort,
    directory: PathBuf,
    arguments: Vec<String>,
    /// The configuration of a Sentinel, which writes to its file.
    sentinel: Option<String>,
}

impl RedisServer {
    /// Starts a server and waits until it answers. `arguments` are additional arguments of redis-server.
    pub fn start(arguments: &[&str]) -> Self {
        Self::launch(arguments, None)
    }

    /// Starts a Sentinel with this configuration file. `arguments` are additional arguments of redis-sentinel.
    pub fn start_sentinel(config: String, arguments: &[&str]) -> Self {
        Self::launch(arguments, Some(config))
    }

    /// Starts a server, or a Sentinel with this configuration.
    fn launch(arguments: &[&str], sentinel: Option<String>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("temporary files can be written");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let port = reserve_port();
        let process = spawn(port.number(), &directory, &arguments, sentinel.as_deref());
        let mut server = Self { process, port, directory, arguments, sentinel };
        server.wait_until_it_answers();
        server
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.port.address())
    }

    /// Opens a new connection.
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().expect("the server answered a moment ago")
    }

    /// Opens a new connection without timeouts. The client's default, half a second for each answer, is too short for
    /// tests on busy machines.
    pub async fn connect_async(&self) -> redis::aio::MultiplexedConnection {
        let patient = redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = redis::Client::open(self.url()).expect("the URL is ours");
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("the server answered a moment ago")
    }

    /// Kills the server, as a power failure would, and restarts it on the same port and directory.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    pub fn crash(&mut self) {
        self.process.kill().expect("it runs until it is killed");
    }

    pub fn restart(&mut self) {
        self.process = self.spawn();
        self.wait_until_it_answers();
    }

    /// Deletes the file that SAVE has written, so that a restarted server is empty.
    pub fn remove_snapshot(&self) {
        match std::fs::remove_file(self.directory.join("dump.rdb")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("the snapshot stays: {error}"),
            _ => {}
        }
    }

    fn spawn(&self) -> Process {
        spawn(self.port(), &self.directory, &self.arguments, self.sentinel.as_deref())
    }

    /// Stops the process: the server answers nothing, as a machine without a network does.
    pub fn freeze(&self) {
        self.process.freeze().expect("the server runs");
    }

    pub fn thaw(&self) {
        self.process.thaw().expect("the server runs");
    }

    /// Runs one command on its own connection.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.try_connect()?)
    }

    /// Waits until `replica` has everything that this server stores now. WAIT covers only the writes of its own
    /// connection.
    pub fn wait_until_copied_by(&self, replica: &Self) {
        let offset = |server: &Self, field: &str| server.info(field).and_then(|text| text.parse::<u64>().ok());
        let stored = offset(self, "master_repl_offset").expect("every Redis counts what it replicates");
        wait_until("copying", || offset(replica, "slave_repl_offset") >= Some(stored));
    }

    /// The value of one field of INFO.
    pub fn info(&self, field: &str) -> Option<String> {
        let text: String = self.try_command(&["INFO", "everything"]).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.to_owned())
    }

    fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(START_DEADLINE)
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let answer = self.try_connect().and_then(|mut redis| redis::cmd("PING").query::<String>(&mut redis));
            if answer.is_ok() {
                return;
            }
            if self.process.status().expect("the child is ours").is_some() {
                let log = std::fs::read_to_string(self.directory.join("redis.log")).unwrap_or_default();
                panic!("redis-server ended: {log}");
            }
            assert!(Instant::now() < deadline, "redis-server does not answer: {answer:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // This fails only if the test has crashed the server already.
        let _ = self.process.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn reserve_port() -> ReservedPort {
    ReservedPort::take().expect("loopback has a free port")
}

fn spawn(port: u16, directory: &Path, arguments: &[String], sentinel: Option<&str>) -> Process {
    let mut command = if let Some(config) = sentinel {
        let file = directory.join("sentinel.conf");
        std::fs::write(&file, config).expect("temporary files can be written");
        redis_server::sentinel_command(&file, port, directory)
    } else {
        let mut command = redis_server::command(port, directory);
        command.args(["--enable-debug-command", "local"]);
        command
    };
    command.args(["--logfile", "redis.log"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start("redis-server", &mut command)
        .expect("this test needs redis-server 7.0 or later: install the package redis-server")
}

/// Polls until the condition is true. The panic after the deadline names it.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}
