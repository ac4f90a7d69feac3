//! Lane `autobahn`: runs the Autobahn cases of `kosoku` against the WebSocket codec in the gateway's echo example.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use test_support::{EndOrder, ProcessSupervisor};

use crate::failure::Failure;
use crate::step::Step;
use crate::{python, workspace};

/// The Autobahn case definitions as a plain Python 3 package. The version is pinned, because a new release may judge
/// differently.
const KOSOKU: &str = "kosoku==0.1.0";

pub(super) fn run() -> Result<(), Failure> {
    let python = python::with(&[KOSOKU], &workspace::target().join("venv"))?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls", "--example", "echo"]).run()?;
    let mut echo = Echo::start(&workspace::target().join("debug/examples/echo"))?;
    let address = echo.address()?;
    Step::new(python).args(["crates/gateway/tests/autobahn/run.py", &address]).run()
}

/// The echo server. It ends when it is dropped or when this process ends.
struct Echo {
    process: Child,
    supervisor: ProcessSupervisor,
}

impl Echo {
    fn start(binary: &Path) -> Result<Self, Failure> {
        let starting = || Failure::during("starting the echo example");
        let mut supervisor = ProcessSupervisor::start().map_err(starting())?;
        let mut command = Command::new(binary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let process = command.spawn().map_err(starting())?;
        supervisor.watch(process.id(), EndOrder::Front).map_err(starting())?;
        Ok(Self { process, supervisor })
    }

    /// The server takes a free port and prints it: `listening 127.0.0.1:PORT`.
    fn address(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let stdout = self.process.stdout.as_mut().expect("piped at its start");
        BufReader::new(stdout).read_line(&mut line).map_err(Failure::during("reading the echo example's address"))?;
        let address = line.trim().strip_prefix("listening ").map(str::to_owned);
        address.ok_or_else(|| Failure::new(format!("the echo example said {line:?}, not where it listens")))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.supervisor.release();
        // The process is only reaped. Its exit status is not used.
        let _ = self.process.wait();
    }
}
