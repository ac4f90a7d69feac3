//! A process of a run. It does not outlive this program.
//!
//! Each is started through this same binary's `supervise`, which asks the kernel to be killed when this program dies (so
//! that neither Ctrl-C, a panic nor SIGKILL leaves anything behind) and then becomes the program: the pid stays.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use test_support::ReservedPort;

use crate::failure::Failure;

/// A running child; dropping it kills it and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `program` with its output in `log`. From the main thread only: the kernel takes the death of the starting
    /// thread for the parent's.
    pub(crate) fn start<A: AsRef<OsStr>>(name: &str, program: &Path, args: &[A], log: &Path) -> Result<Self, Failure> {
        Self::start_command(name, Command::new(program).args(args), log)
    }

    /// The same for a command with variables of its own.
    pub(crate) fn start_command(name: &str, wanted: &Command, log: &Path) -> Result<Self, Failure> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(Failure::io(log.display().to_string()))?;
        let copy = file.try_clone().map_err(Failure::io(log.display().to_string()))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["supervise", "--parent", &std::process::id().to_string(), "--"]);
        command.arg(wanted.get_program()).args(wanted.get_args());
        for (variable, value) in wanted.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().map_err(Failure::io(format!("starting {name}")))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait().map_err(Failure::io(self.name.clone()))? {
            None => Ok(()),
            Some(status) => Err(Failure::Process(format!("{} ended by itself: {status}", self.name))),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).map_err(|error| Failure::io(format!("signalling {}", self.name))(error.into()))
    }

    /// Kills it and tells the signal that it died of.
    pub(crate) fn kill(&mut self) -> Result<i32, Failure> {
        self.child.kill().map_err(Failure::io(format!("killing {}", self.name)))?;
        let status = self.child.wait().map_err(Failure::io(format!("waiting for {}", self.name)))?;
        status.signal().ok_or_else(|| Failure::Unproven(format!("{} had ended before: {status}", self.name)))
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait().map_err(Failure::io(self.name.clone()))?.is_some())
    }

    /// The code it ended with, if it has ended by itself.
    pub(crate) fn exit_code(&mut self) -> Result<Option<i32>, Failure> {
        Ok(self.child.try_wait().map_err(Failure::io(self.name.clone()))?.and_then(|status| status.code()))
    }

    /// Whether it is stopped, as the kernel sees it.
    pub(crate) fn is_stopped(&self) -> Result<bool, Failure> {
        let path = format!("/proc/{}/stat", self.pid());
        let text = std::fs::read_to_string(&path).map_err(Failure::io(path))?;
        Ok(text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `chaos supervise` runs: ties its life to its parent's and becomes `program`.
pub(crate) fn supervise(parent: u32, program: &OsStr, args: &[OsString]) -> Failure {
    let name = program.display().to_string();
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Failure::io("prctl PR_SET_PDEATHSIG")(error.into());
    }
    // It may have died before the line above; then nobody would ever end this process.
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get().unsigned_abs() != parent) {
        return Failure::Process(format!("nobody is left to run {name}"));
    }
    Failure::io(format!("starting {name}"))(Command::new(program).args(args).exec())
}

/// An address of loopback that is nobody else's.
pub(crate) fn reserve_port() -> Result<ReservedPort, Failure> {
    ReservedPort::take().map_err(Failure::io("binding a free port"))
}
