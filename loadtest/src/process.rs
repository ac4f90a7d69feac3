//! A process the bench started. It runs on the cores it was given and does not outlive the bench.
//!
//! Every child is started through this same binary's `supervise` command, which pins itself, asks the kernel to be killed
//! when the bench dies (so neither Ctrl-C, a panic nor SIGKILL leaves anything behind) and then becomes the program.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use test_support::ReservedPort;

use crate::cores::pin_this_thread;
use crate::failure::Failure;

/// How long a server may take until it listens.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Between two looks at whether it listens.
const START_POLL: Duration = Duration::from_millis(20);

/// A running child; dropping it kills it and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

/// What the bench says to a child and hears from it.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
}

impl Process {
    /// Starts `program` on `cores`, with its output thrown away; what it complains of on stderr is passed on.
    ///
    /// Must be called from the main thread: the kernel takes the death of the starting thread for the parent's.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        cores: &[usize],
        program: &OsStr,
        args: &[A],
    ) -> Result<Self, Failure> {
        let mut command = supervised(cores, program, args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(Failure::io(format!("starting {name}")))?;
        Ok(Self { name, child })
    }

    /// Starts this same binary with another command, and keeps a line to it.
    pub(crate) fn start_self(name: &'static str, cores: &[usize], args: &[&str]) -> Result<(Self, Pipes), Failure> {
        let mut command = supervised(cores, OsStr::new(SELF), args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Failure::io(format!("starting {name}")))?;
        let stdin = child.stdin.take().expect("stdin was asked to be a pipe");
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        Ok((Self { name, child }, Pipes { stdin, stdout }))
    }

    /// For `/proc`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections at `addr`.
    pub(crate) fn await_listening(&mut self, addr: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if TcpStream::connect(addr).is_ok() {
                return Ok(());
            }
            self.check_alive()?;
            if Instant::now() > deadline {
                return Err(self.failure(format!("does not listen after {START_TIME_MAX:?}")));
            }
            std::thread::sleep(START_POLL);
        }
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait().map_err(Failure::io(self.name))? {
            None => Ok(()),
            Some(status) => Err(self.failure(format!("ended by itself: {status}"))),
        }
    }

    /// A failure in its name.
    pub(crate) fn failure(&self, what: impl Into<String>) -> Failure {
        Failure::Process { name: self.name, what: what.into() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SELF: &str = "/proc/self/exe";

fn supervised<A: AsRef<OsStr>>(cores: &[usize], program: &OsStr, args: &[A]) -> Command {
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new(SELF);
    command.args(["supervise", "--cores", &cores, "--parent", &std::process::id().to_string(), "--"]);
    command.arg(program).args(args);
    command
}

/// What `loadtest supervise` runs: pins itself, ties its life to the bench's, becomes `program`.
pub(crate) fn supervise(cores: &[usize], parent: u32, program: &OsStr, args: &[OsString]) -> Failure {
    let tie = || {
        pin_this_thread(cores)?;
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::io("prctl PR_SET_PDEATHSIG"))?;
        // The bench may have died before the line above; then nobody would ever end this process.
        let orphaned = getppid().is_none_or(|pid| pid.as_raw_nonzero().get().unsigned_abs() != parent);
        if orphaned { Err(Failure::Unmeasurable("the bench is gone".into())) } else { Ok(()) }
    };
    if let Err(failure) = tie() {
        return failure;
    }
    // `/proc/self/exe` means this binary again, which is what `start_self` wants.
    let error = Command::new(program).args(args).exec();
    Failure::io(format!("starting {}", program.display()))(error)
}

pub(crate) fn reserve_port() -> Result<ReservedPort, Failure> {
    ReservedPort::take().map_err(Failure::io("binding a free port"))
}
