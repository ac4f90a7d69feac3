//! Runs one program to its end. Its output goes to the terminal unchanged.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::{program, workspace};

/// A command that will run in the repository's root, without input.
pub(crate) struct Step {
    command: Command,
    /// The command line. It is printed, and it is named when the program fails.
    line: String,
}

impl Step {
    /// `program` is a name or a path. A name is also looked up in Debian's directories for servers.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let found = program::find(program).map_or_else(|| program.to_owned(), Into::into);
        let mut command = Command::new(found);
        command.current_dir(workspace::root()).stdin(Stdio::null());
        Self { command, line: Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned() }
    }

    pub(crate) fn cargo(args: &[&str]) -> Self {
        Self::new(workspace::cargo()).args(args)
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            self.line.push(' ');
            self.line.push_str(&arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Runs the program to its end. A status other than 0 is a failure that names the command line.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        println!("$ {}", self.line);
        let status = self.command.status().map_err(Failure::during(format_args!("starting `{}`", self.line)))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("`{}` failed ({status})", self.line))) }
    }

    /// Runs the program to its end and returns its output.
    pub(crate) fn answer(mut self) -> Result<String, Failure> {
        self.command.stderr(Stdio::inherit());
        let output = self.command.output().map_err(Failure::during(format_args!("starting `{}`", self.line)))?;
        if !output.status.success() {
            return Err(Failure::new(format!("`{}` failed ({})", self.line, output.status)));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| Failure::new(format!("`{}` answered something not UTF-8", self.line)))
    }

    /// Returns whether the program runs and succeeds. Shows no output. It tests whether a program is installed.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }
}
