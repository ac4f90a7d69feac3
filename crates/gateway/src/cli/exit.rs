//! The exit codes, named after sysexits.h.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// The process could not start, or the command failed, or its answer is no.
    Failure,
    /// EX_USAGE: the command line or the configuration is wrong. Repeating the command without a change cannot
    /// succeed.
    Usage,
    /// EX_DATAERR: the message to publish or the token to sign is not valid.
    Data,
    /// EX_UNAVAILABLE: Redis is unreachable, or refused the command.
    Unavailable,
    /// EX_TEMPFAIL: it is unknown whether the command was executed.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::Unavailable => 69,
            Exit::Unknown => 75,
        })
    }
}

impl Exit {
    /// Writes the reason to standard error.
    pub(crate) fn because(self, reason: impl Display) -> Self {
        eprintln!("tidegate: {reason}");
        self
    }

    /// Writes `text` to standard output. A reader that has closed the pipe, such as `head`, is no failure. A full
    /// disk is.
    pub(crate) fn telling(self, text: impl Display) -> Self {
        let mut out = std::io::stdout().lock();
        match write!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Self::Failure.because(format_args!("standard output: {error}"))
            }
            _ => self,
        }
    }
}
