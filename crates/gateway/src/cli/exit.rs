//! Exit codes, by the names of sysexits.h.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// It could not start, or what was asked is not so.
    Failure,
    /// EX_USAGE: the command line or the configuration is wrong. Trying again without a change is of no use.
    Usage,
    /// EX_DATAERR: what was to be published or signed is wrong.
    Data,
    /// EX_UNAVAILABLE: Redis is not there, or refused.
    Unavailable,
    /// EX_TEMPFAIL: nobody knows whether it was done.
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
    /// Says on standard error why it ends so.
    pub(crate) fn because(self, reason: impl Display) -> Self {
        eprintln!("tidegate: {reason}");
        self
    }

    /// Says `text` on standard output. Who has stopped to read, as `head` does, is no reason to fail; a full disk is.
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
