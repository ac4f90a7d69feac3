//! A Redis of a run's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use reserved_port::ReservedPort;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::process::{Process, reserve_port};

const START_TIME_MAX: Duration = Duration::from_secs(20);
/// For a question to a Redis that is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    _port: ReservedPort,
    pub(crate) process: Process,
    directory: PathBuf,
    args: Vec<String>,
    /// The program and the words before those of its own; nothing but itself as a rule.
    command: Vec<String>,
}

impl RedisServer {
    /// Starts it with these further arguments and waits until it answers.
    pub(crate) async fn start(name: &'static str, directory: &Path, args: &[&str]) -> Result<Self, Failure> {
        Self::start_behind(Vec::new(), name, directory, args).await
    }

    /// The same with these words before the program's name.
    pub(crate) async fn start_behind(
        prefix: Vec<String>,
        name: &'static str,
        directory: &Path,
        args: &[&str],
    ) -> Result<Self, Failure> {
        let command: Vec<String> = prefix.into_iter().chain(["redis-server".into()]).collect();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
        let port = reserve_port()?;
        let address = port.address();
        let args = args.iter().map(ToString::to_string).collect::<Vec<_>>();
        let process = spawn(&command, name, address, &directory, &args)?;
        let mut server = Self { name, address, _port: port, process, directory, args, command };
        server.await_answer().await?;
        Ok(server)
    }

    /// Kills it as a crash would.
    pub(crate) fn crash(&mut self) -> Result<(), Failure> {
        self.process.kill().map(|_| ())
    }

    /// Starts it again where it was, with what its directory holds.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.process = spawn(&self.command, self.name, self.address, &self.directory, &self.args)?;
        self.await_answer().await
    }

    /// One command on a connection of its own.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, Failure> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let ask = async || -> RedisResult<T> {
            command.query_async(&mut connect(self.address, ANSWER_TIME_MAX).await?).await
        };
        ask().await.map_err(Failure::redis(words.join(" ")))
    }

    /// One field of `INFO`.
    pub(crate) async fn info(&self, section: &str, field: &str) -> Result<String, Failure> {
        let text: String = self.ask(&["INFO", section]).await?;
        let prefix = format!("{field}:");
        Ok(text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().trim().to_owned())
    }

    /// How many calls were refused with this error.
    pub(crate) async fn refusals(&self, error: &str) -> Result<u64, Failure> {
        let text = self.info("errorstats", &format!("errorstat_{error}")).await?;
        Ok(text.strip_prefix("count=").and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("redis.log")).unwrap_or_default()
    }

    async fn await_answer(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME_MAX;
        let ours = self.process.pid().to_string();
        loop {
            // Somebody else may have taken the port: the answer must come from our own.
            if self.info("server", "process_id").await.is_ok_and(|pid| pid == ours)
                && self.info("persistence", "loading").await.is_ok_and(|loading| loading == "0")
            {
                return Ok(());
            }
            self.process.check_alive()?;
            if Instant::now() > deadline {
                return Err(Failure::Late(format!("{} answers", self.name)));
            }
            sleep(POLL).await;
        }
    }
}

/// A connection whose calls are given up after `wait`.
pub(crate) async fn connect(address: SocketAddr, wait: Duration) -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(wait)).set_response_timeout(Some(wait));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn spawn(
    command: &[String],
    name: &str,
    address: SocketAddr,
    directory: &Path,
    args: &[String],
) -> Result<Process, Failure> {
    let own: Vec<String> = ["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]
        .into_iter()
        .chain(["--appendonly", "no", "--maxmemory-policy", "noeviction", "--enable-debug-command", "local"])
        // A replica begins at once, without waiting for others.
        .chain(["--repl-diskless-sync-delay", "0", "--dir", &directory.to_string_lossy()])
        .map(str::to_owned)
        .collect();
    let all: Vec<String> = command[1..].iter().chain(&own).chain(args).cloned().collect();
    Process::start(name, Path::new(&command[0]), &all, &directory.join("redis.log"))
}
