//! A child process that does not outlive its owner.
//!
//! Dropping a [`Process`] kills it, also when the owner panics. [`supervised`] children end even when this process is
//! killed. Each is started through the command `supervise` of this same binary, which asks the kernel for SIGKILL at
//! its parent's death and then becomes the program, so the pid does not change. For children that must end in an order,
//! with SIGTERM first, use [`crate::ProcessSupervisor`].

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// The pause between two checks of a process that is about to change its state.
const POLL: Duration = Duration::from_millis(1);

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// The child. Callers may take its pipes.
    pub child: Child,
}

/// An error that names the process and what failed.
#[derive(Debug)]
pub struct ProcessError(String);

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProcessError {}

// === impl Process ===

impl Process {
    /// Starts the process. `name` is used in error messages.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self, ProcessError> {
        let name = name.into();
        match command.spawn() {
            Ok(child) => Ok(Self { name, child }),
            Err(error) => Err(ProcessError(format!("starting {name}: {error}"))),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error about this process. `what` is a verb and the rest of the sentence.
    pub fn error(&self, what: impl fmt::Display) -> ProcessError {
        ProcessError(format!("{} {what}", self.name))
    }

    /// The exit status, if the process has ended.
    pub fn status(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|error| ProcessError(format!("{}: {error}", self.name)))
    }

    /// Fails if the process has ended by itself.
    pub fn check_alive(&mut self) -> Result<(), ProcessError> {
        self.status()?.map_or(Ok(()), |status| Err(self.error(format_args!("ended by itself: {status}"))))
    }

    /// Kills the process and waits for its end. If it had ended before, the status is not SIGKILL.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(|error| ProcessError(format!("killing {}: {error}", self.name)))
    }

    /// Sends a signal by its name for `kill`: `-TERM`, `-STOP`, `-CONT`.
    pub fn signal(&self, name: &str) -> Result<(), ProcessError> {
        match Command::new("kill").args([name, &self.pid().to_string()]).status() {
            Ok(status) if status.success() => Ok(()),
            ended => Err(ProcessError(format!("kill {name} {}: {ended:?}", self.name))),
        }
    }

    /// Stops every thread, and returns when all have stopped. On a busy machine that takes a while.
    pub fn freeze(&self) -> Result<(), ProcessError> {
        self.signal("-STOP")?;
        // Without /proc the state is unknown, and the loop ends.
        while !self.is_stopped().unwrap_or(true) {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Continues after [`Process::freeze`].
    pub fn thaw(&self) -> Result<(), ProcessError> {
        self.signal("-CONT")
    }

    /// Whether the kernel has stopped each thread of the process.
    pub fn is_stopped(&self) -> Result<bool, ProcessError> {
        let tasks = format!("/proc/{}/task", self.pid());
        let tasks = std::fs::read_dir(&tasks).map_err(|error| ProcessError(format!("{tasks}: {error}")))?;
        let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        Ok(stats.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command of a gateway, or of its command line, without the variables that this shell has set for another gateway.
pub fn tidegate(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command
}

/// Sends the output of `command` to `log`, and gives it no input.
pub fn log_to(command: &mut Command, log: File) -> io::Result<&mut Command> {
    let copy = log.try_clone()?;
    Ok(command.stdin(Stdio::null()).stdout(log).stderr(copy))
}

#[cfg(feature = "supervise")]
pub use self::supervise::{THIS_PROGRAM, supervise, supervised};

#[cfg(feature = "supervise")]
mod supervise {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    use super::ProcessError;

    /// The program that runs now, even if its file was replaced in the meantime.
    pub const THIS_PROGRAM: &str = "/proc/self/exe";

    /// `command` as a child that dies with this process: it runs `supervise OPTIONS --parent PID -- PROGRAM ARGS`.
    ///
    /// The main thread must start the child, because the kernel treats the death of the starting thread as the death of
    /// the parent.
    pub fn supervised(command: &Command, options: &[&str]) -> Command {
        let mut supervised = Command::new(THIS_PROGRAM);
        supervised.arg("supervise").args(options).args(["--parent", &std::process::id().to_string(), "--"]);
        supervised.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => supervised.env(variable, value),
                None => supervised.env_remove(variable),
            };
        }
        supervised
    }

    /// Runs the command `supervise`: ties this process to the life of its parent and becomes `program`. Returns only if
    /// that fails.
    pub fn supervise(parent: u32, program: &OsStr, args: &[OsString]) -> ProcessError {
        let name = program.display();
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            return ProcessError(format!("prctl PR_SET_PDEATHSIG: {error}"));
        }
        // The parent may have died before the line above. Then nothing would ever end this process.
        if getppid().is_none_or(|pid| pid.as_raw_nonzero().get().unsigned_abs() != parent) {
            return ProcessError(format!("nobody is left to run {name}"));
        }
        ProcessError(format!("starting {name}: {}", Command::new(program).args(args).exec()))
    }
}
