//! The processes of the bench. The command `supervise` pins each process to its cores and ends it when the bench ends.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use test_support::process::{self, THIS_PROGRAM};
use test_support::{Process, ReservedPort};

use crate::cores::pin_this_thread;
use crate::failure::Failure;

/// Time limit until a server listens.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// The pause between two checks whether a server listens.
const START_POLL: Duration = Duration::from_millis(20);

/// The pipes between the bench and a child.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
}

/// Starts `command` on `cores`. Its output is discarded, and its stderr is that of the bench. Call it only from the
/// main thread.
pub(crate) fn start(name: &str, cores: &[usize], command: &Command) -> Result<Process, Failure> {
    Ok(Process::start(name, supervised(cores, command).stdin(Stdio::null()).stdout(Stdio::null()))?)
}

/// Starts this binary with another command, with pipes to it. Call it only from the main thread.
pub(crate) fn start_self(name: &str, cores: &[usize], args: &[&str]) -> Result<(Process, Pipes), Failure> {
    let mut command = supervised(cores, Command::new(THIS_PROGRAM).args(args));
    let mut process = Process::start(name, command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let stdin = process.child.stdin.take().expect("stdin was asked to be a pipe");
    let stdout = process.child.stdout.take().expect("stdout was asked to be a pipe");
    Ok((process, Pipes { stdin, stdout }))
}

/// Waits until `process` accepts connections at `addr`.
pub(crate) fn await_listening(process: &mut Process, addr: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + START_TIME_MAX;
    while TcpStream::connect(addr).is_err() {
        process.check_alive()?;
        if Instant::now() > deadline {
            return Err(process.error(format!("does not listen after {START_TIME_MAX:?}")).into());
        }
        std::thread::sleep(START_POLL);
    }
    Ok(())
}

fn supervised(cores: &[usize], command: &Command) -> Command {
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    process::supervised(command, &["--cores", &cores])
}

/// Runs `loadtest supervise`: pins this process, ties it to the life of the bench, and becomes `program`.
pub(crate) fn supervise(cores: &[usize], parent: u32, program: &OsStr, args: &[OsString]) -> Failure {
    match pin_this_thread(cores) {
        // Here `/proc/self/exe` is this binary again, as `start_self` needs it.
        Ok(()) => process::supervise(parent, program, args).into(),
        Err(failure) => failure,
    }
}

/// Reserves an address of loopback that no other process gets.
pub(crate) fn reserve_port() -> Result<ReservedPort, Failure> {
    ReservedPort::take().map_err(Failure::io("binding a free port"))
}
