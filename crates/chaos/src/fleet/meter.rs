//! Values that are read from outside: Redis' own counters, its rows of connections, and the memory of processes.

use std::fs;

use keyspace::Keyspace;
use serde_json::Value;
use wire::InstanceId;

use crate::failure::Failure;
use crate::redis_server::RedisServer;

/// Redis' counters since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Commands {
    /// Number of commands that arrived over the network.
    pub(crate) calls: u64,
    /// Number of all commands, including those that functions ran.
    pub(crate) all: u64,
    /// Number of reads of a scope's history.
    pub(crate) history_reads: u64,
}

impl Commands {
    pub(crate) async fn read(server: &RedisServer) -> Result<Self, Failure> {
        let text: String = server.ask(&["INFO", "commandstats"]).await?;
        let calls_of = |name: &str| {
            let prefix = format!("cmdstat_{name}:calls=");
            let rest = text.lines().find_map(|line| line.strip_prefix(&prefix));
            rest.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let all = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")).filter_map(|line| {
            let (name, rest) = line.split_once(":calls=")?;
            // The trial itself sent this command to read the counters.
            let is_ours = ["info", "client|setinfo", "hello"].contains(&name);
            rest.split(',').next()?.parse::<u64>().ok().filter(|_| !is_ours)
        });
        // Gateways publish through functions, so PUBLISH is never a call.
        let calls = ["fcall", "fcall_ro", "blpop", "subscribe", "unsubscribe", "ping", "wait"];
        Ok(Self { calls: calls.into_iter().map(calls_of).sum(), all: all.sum(), history_reads: calls_of("xrange") })
    }

    /// The difference since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls - earlier.calls,
            all: self.all - earlier.all,
            history_reads: self.history_reads - earlier.history_reads,
        }
    }
}

/// One incarnation of an instance, as the registry's keys name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IncarnationKeys {
    id: InstanceId,
    incarnation: String,
}

impl IncarnationKeys {
    /// The current incarnation of this instance, if the roster lists it.
    pub(crate) async fn of(server: &RedisServer, name: &str) -> Result<Option<Self>, Failure> {
        let entry: Option<String> = server.ask(&["HGET", &Keyspace::default().peers(), name]).await?;
        Ok(entry.and_then(|entry| Self::parse(name, &entry)))
    }

    /// All incarnations in the roster.
    pub(crate) async fn all(server: &RedisServer) -> Result<Vec<Self>, Failure> {
        let entries: Vec<(String, String)> = server.ask(&["HGETALL", &Keyspace::default().peers()]).await?;
        Ok(entries.iter().filter_map(|(name, entry)| Self::parse(name, entry)).collect())
    }

    fn parse(name: &str, entry: &str) -> Option<Self> {
        let record: Value = serde_json::from_str(entry.split_once(' ')?.1).ok()?;
        Some(Self { id: InstanceId::parse(name).ok()?, incarnation: record["incarnation"].as_str()?.to_owned() })
    }

    /// Number of connections that Redis lists for this incarnation.
    pub(crate) async fn rows(&self, server: &RedisServer) -> Result<u64, Failure> {
        server.ask(&["HLEN", &Keyspace::default().rows(&self.id, &self.incarnation)]).await
    }

    /// Whether Redis holds nothing of it any more: no roster entry, no rows, and no counts for limits.
    pub(crate) async fn is_gone(&self, server: &RedisServer) -> Result<bool, Failure> {
        let keys = Keyspace::default();
        let (rows, users) = (keys.rows(&self.id, &self.incarnation), keys.users(&self.id, &self.incarnation));
        let left: u64 = server.ask(&["EXISTS", &rows, &users]).await?;
        Ok(left == 0 && Self::of(server, self.id.as_str()).await?.as_ref() != Some(self))
    }

    /// The key that counts the connections of its users.
    pub(crate) fn users(&self) -> String {
        Keyspace::default().users(&self.id, &self.incarnation)
    }
}

/// The resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(Failure::io(path.clone()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| Failure::Process(format!("{path} has no line Rss")))
}
