//! A Redis for one test, on a reserved port of loopback, in memory unless the test asks otherwise.
//!
//! For tests alone: a failure to start is a panic that says what to install.
//! [`SentinelSet`] is a primary with a replica, and three Sentinels that watch them. A [`StagedSentinel`] answers what a
//! test tells it to. [`RedisCluster`] is three primaries that share the slots.

mod cluster;
mod sentinel;
mod staged_sentinel;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::ReservedPort;

pub use self::cluster::RedisCluster;
pub use self::sentinel::SentinelSet;
pub use self::staged_sentinel::StagedSentinel;

/// What the Sentinels call the primary.
const SENTINEL_MASTER: &str = "main";
/// Redis starts in well under a second, but for machines that are busy with much else.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running server, ended and removed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    /// For tests that send it signals.
    pub child: Child,
    port: ReservedPort,
    directory: PathBuf,
    arguments: Vec<String>,
    /// `redis-sentinel` needs a file that it can write to.
    sentinel: Option<String>,
}

impl RedisServer {
    /// Starts a server and waits until it answers. `arguments` are as on the command line of redis-server.
    pub fn start(arguments: &[&str]) -> Self {
        Self::launch(arguments, None)
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
        let child = spawn(port.number(), &directory, &arguments, sentinel.as_deref());
        let mut server = Self { child, port, directory, arguments, sentinel };
        server.wait_until_it_answers();
        server
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.port.address())
    }

    /// A new connection.
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().expect("the server answered a moment ago")
    }

    /// A new connection that waits for as long as its answers take. The client's own defaults, half a second for each,
    /// end tests on busy machines.
    pub async fn connect_async(&self) -> redis::aio::MultiplexedConnection {
        let patient = redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = redis::Client::open(self.url()).expect("the URL is ours");
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("the server answered a moment ago")
    }

    /// Kills it as a power cut would, and starts it again on the same port and directory.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    pub fn crash(&mut self) {
        self.child.kill().expect("it runs until it is killed");
        self.child.wait().expect("a killed child ends");
    }

    pub fn restart(&mut self) {
        self.child = self.spawn();
        self.wait_until_it_answers();
    }

    /// Takes away what SAVE has written: a server that is started again begins empty.
    pub fn remove_snapshot(&self) {
        match std::fs::remove_file(self.directory.join("dump.rdb")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("the snapshot stays: {error}"),
            _ => {}
        }
    }

    fn spawn(&self) -> Child {
        spawn(self.port(), &self.directory, &self.arguments, self.sentinel.as_deref())
    }

    /// Stops answering, as a machine without its network does.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success(), "the server is there to be signalled");
    }

    /// One command, past whatever is tested.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.try_connect()?)
    }

    /// Waits until `replica` has all that is stored here now. WAIT would not do: it looks no further than the writes of
    /// its own connection.
    pub fn wait_until_copied_by(&self, replica: &Self) {
        let offset = |server: &Self, field: &str| server.info(field).and_then(|text| text.parse::<u64>().ok());
        let stored = offset(self, "master_repl_offset").expect("every Redis counts what it replicates");
        wait_until("copying", || offset(replica, "slave_repl_offset") >= Some(stored));
    }

    /// A line of INFO, without its name.
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
            if self.child.try_wait().expect("the child is ours").is_some() {
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
        // Both fail only when the test has crashed it already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn reserve_port() -> ReservedPort {
    ReservedPort::take().expect("loopback has a free port")
}

fn spawn(port: u16, directory: &Path, arguments: &[String], sentinel: Option<&str>) -> Child {
    let mut command = match sentinel {
        None => {
            let mut command = Command::new("redis-server");
            command.args(["--save", "", "--appendonly", "no", "--enable-debug-command", "local"]);
            command
        }
        Some(config) => {
            let file = directory.join("sentinel.conf");
            std::fs::write(&file, config).expect("temporary files can be written");
            let mut command = Command::new("redis-server");
            command.arg(file).arg("--sentinel");
            command
        }
    };
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--dir", &directory.to_string_lossy(), "--logfile", "redis.log"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("this test needs redis-server 7.0 or later: install the package redis-server")
}

/// Waits for something that takes Redis a while, and says what if it does not come.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}
