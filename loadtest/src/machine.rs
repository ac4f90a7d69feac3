//! The machine and the versions of a run. A figure means nothing without them.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use crate::cores::Cores;

/// The machine and the program versions.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    kernel: String,
    cores: Cores,
    descriptors: String,
    redis: String,
    gateway: String,
    commit: String,
    /// Number of runnable processes over 1, 5 and 15 minutes when the run began. It shows what else was running.
    load: String,
}

impl Machine {
    /// Collects the data before anything is started.
    pub(crate) fn look(cores: Cores, gateway: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()))
            .unwrap_or_else(|| "unknown processor".into());
        let descriptors = getrlimit(Resource::Nofile).current.map_or_else(|| "no limit".into(), |n| n.to_string());
        Self {
            processor,
            kernel: read("/proc/sys/kernel/osrelease"),
            cores,
            descriptors,
            redis: first_line("redis-server", &["--version"]),
            gateway: first_line(gateway, &["--version"]),
            commit: commit(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

fn first_line(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".into())
}

fn commit() -> String {
    let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"]);
    let changes = first_line("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes == "unknown" { commit } else { format!("{commit} and uncommitted changes") }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, kernel, cores, descriptors, redis, gateway, commit, load } = self;
        writeln!(f, "machine  {processor}, Linux {kernel}, {descriptors} descriptors per process")?;
        writeln!(
            f,
            "cores    {} for the server, {:?} for Redis, publisher and receivers",
            cores.server, cores.clients
        )?;
        writeln!(f, "load     {load} when the run began")?;
        writeln!(f, "gateway  {gateway}, commit {commit}")?;
        write!(f, "redis    {redis}")
    }
}
