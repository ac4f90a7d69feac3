//! Processes of the bench. Each runs on the cores that it was given and does not outlive the bench: the command
//! `supervise` sees to both.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use test_support::process::{self, THIS_PROGRAM};
use test_support::{Process, ReservedPort};

use crate::cores::pin_this_thread;
use crate::failure::Failure;

/// How long a server may take until it listens.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Between two looks at whether it listens.
const START_POLL: Duration = Duration::from_millis(20);

/// What the bench says to a child and hears from it.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
}

/// Starts `command` on `cores`. Its output is thrown away, its stderr is the bench's. From the main thread only.
pub(crate) fn start(name: &str, cores: &[usize], command: &Command) -> Result<Process, Failure> {
    Ok(Process::start(name, supervised(cores, command).stdin(Stdio::null()).stdout(Stdio::null()))?)
}

/// Starts this same binary with another command, with pipes to it. From the main thread only.
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

/// What `loadtest supervise` runs: pins itself, binds itself to the bench's life, becomes `program`.
pub(crate) fn supervise(cores: &[usize], parent: u32, program: &OsStr, args: &[OsString]) -> Failure {
    match pin_this_thread(cores) {
        // `/proc/self/exe` means this binary again, which is what `start_self` wants.
        Ok(()) => process::supervise(parent, program, args).into(),
        Err(failure) => failure,
    }
}

/// An address of loopback that nobody else gets.
pub(crate) fn reserve_port() -> Result<ReservedPort, Failure> {
    ReservedPort::take().map_err(Failure::io("binding a free port"))
}
