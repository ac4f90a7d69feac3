//! One child of the cluster: its name, its process and its log.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use test_support::process::log_to;
use test_support::{EndOrder, Process, ProcessSupervisor};

use crate::failure::Failure;

/// Number of log lines that are printed when a process ends before it is ready.
const TAIL_LINES: usize = 20;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    process: Process,
    log: PathBuf,
    /// The exit status, set once when the process has ended.
    ended: Option<ExitStatus>,
}

impl Member {
    /// Starts `command` under supervision, with its output in `dir/name.log`. The child has its own process group, so
    /// that Ctrl-C reaches only this process.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        dir: &Path,
        end_order: EndOrder,
        supervisor: &mut ProcessSupervisor,
    ) -> Result<Self, Failure> {
        let starting = || Failure::during(format!("starting {name}"));
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).map_err(starting())?;
        let process = Process::start(name, log_to(&mut command, file).map_err(starting())?.process_group(0))?;
        supervisor.watch(process.pid(), end_order).map_err(Failure::during(format!("watching {name}")))?;
        Ok(Self { name: name.to_owned(), process, log, ended: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The exit status, returned only by the first call after the process has ended.
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = self.process.status().ok().flatten();
        self.ended
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The last lines of its log.
    pub(super) fn last_log_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}
