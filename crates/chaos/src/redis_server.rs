//! A Redis server that belongs to one run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use test_support::{Process, ReservedPort, redis_server};
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::polling::until;
use crate::process::{self, reserve_port};

const START_TIME_MAX: Duration = Duration::from_secs(20);
/// Time limit for a query to a running Redis.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Arguments of a replica. Its primary may be silent for longer than a run lasts, and the replica keeps the connection.
pub(crate) const REPLICA_ARGS: [&str; 4] = ["--repl-timeout", "600", "--repl-ping-replica-period", "1"];
/// Arguments of every server. A replica synchronises at once, without waiting for others.
const OWN_ARGS: [&str; 4] = ["--enable-debug-command", "local", "--repl-diskless-sync-delay", "0"];

#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    _port: ReservedPort,
    pub(crate) process: Process,
    command: Command,
    log: PathBuf,
}

impl RedisServer {
    /// Starts the server with these additional arguments and waits until it answers.
    pub(crate) async fn start(name: &'static str, directory: &Path, args: &[&str]) -> Result<Self, Failure> {
        Self::start_behind(Vec::new(), name, directory, args).await
    }

    /// Starts the server with these words before the program's name.
    pub(crate) async fn start_behind(
        prefix: Vec<String>,
        name: &'static str,
        directory: &Path,
        args: &[&str],
    ) -> Result<Self, Failure> {
        let command = |port, directory: &Path| {
            let mut command = redis_server::command(port, directory);
            command.args(OWN_ARGS).args(args);
            process::behind(&prefix, command)
        };
        Self::launch(name, directory, command).await
    }

    /// Starts a Sentinel with this configuration and waits until it answers.
    pub(crate) async fn start_sentinel(name: &'static str, directory: &Path, config: &str) -> Result<Self, Failure> {
        let file = directory.join(format!("{name}.conf"));
        std::fs::write(&file, config).map_err(Failure::io(file.display().to_string()))?;
        Self::launch(name, directory, |port, directory| redis_server::sentinel_command(&file, port, directory)).await
    }

    async fn launch(
        name: &'static str,
        directory: &Path,
        command: impl FnOnce(u16, &Path) -> Command,
    ) -> Result<Self, Failure> {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
        let port = reserve_port()?;
        let (command, log) = (command(port.number(), &directory), directory.join("redis.log"));
        let process = process::start(name, &command, &log)?;
        let mut server = Self { name, address: port.address(), _port: port, process, command, log };
        server.await_answer().await?;
        Ok(server)
    }

    /// Kills the server, as a crash would.
    pub(crate) fn crash(&mut self) -> Result<(), Failure> {
        process::kill(&mut self.process).map(|_| ())
    }

    /// Restarts the server at the same address with the data in its directory.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.process = process::start(self.name, &self.command, &self.log)?;
        self.await_answer().await
    }

    /// Runs one command on its own connection.
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

    /// Waits until the replica has a copy of its primary.
    pub(crate) async fn until_linked(&self) -> Result<(), Failure> {
        let is_linked = async || self.info("replication", "master_link_status").await.is_ok_and(|s| s == "up");
        until("the replica has its primary", is_linked).await
    }

    /// Number of calls that were refused with this error.
    pub(crate) async fn refusals(&self, error: &str) -> Result<u64, Failure> {
        let text = self.info("errorstats", &format!("errorstat_{error}")).await?;
        Ok(text.strip_prefix("count=").and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// The text of its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn await_answer(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME_MAX;
        let ours = self.process.pid().to_string();
        loop {
            // Another process may have taken the port. The answer must come from this server.
            if self.info("server", "process_id").await.is_ok_and(|pid| pid == ours)
                // A Sentinel loads nothing, and does not report the field.
                && self.info("persistence", "loading").await.is_ok_and(|loading| loading != "1")
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

/// Opens a connection whose calls time out after `wait`.
pub(crate) async fn connect(address: SocketAddr, wait: Duration) -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(wait)).set_response_timeout(Some(wait));
    client.get_multiplexed_async_connection_with_config(&config).await
}
