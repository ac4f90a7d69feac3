//! The processes of a run. None outlives this program: the command `supervise` ends them.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use test_support::process::{log_to, supervised};
use test_support::{Process, ReservedPort};

use crate::failure::Failure;

/// Starts `command` and appends its output to `log`. Call it only from the main thread.
pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Result<Process, Failure> {
    let failed = || Failure::io(log.display().to_string());
    let file = File::options().create(true).append(true).open(log).map_err(failed())?;
    let mut command = supervised(command, &[]);
    Ok(Process::start(name, log_to(&mut command, file).map_err(failed())?)?)
}

/// Puts these words before the program of `command`.
pub(crate) fn behind(prefix: &[String], command: Command) -> Command {
    let Some((program, args)) = prefix.split_first() else { return command };
    let mut behind = Command::new(program);
    behind.args(args).arg(command.get_program()).args(command.get_args());
    behind
}

/// Kills a process and returns the signal that ended it.
pub(crate) fn kill(process: &mut Process) -> Result<i32, Failure> {
    let status = process.kill()?;
    status.signal().ok_or_else(|| Failure::Unproven(process.error(format!("had ended before: {status}")).to_string()))
}

/// Reserves an address of loopback that no other process gets.
pub(crate) fn reserve_port() -> Result<ReservedPort, Failure> {
    ReservedPort::take().map_err(Failure::io("binding a free port"))
}
