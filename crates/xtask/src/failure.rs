//! The failure of a command: one sentence for the person who typed it.

use std::fmt;
use std::io;

use test_support::ProcessError;

/// A sentence that states what failed and, where it is known, what to do.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// Wraps an I/O error with the operation that failed: `during("starting redis-server")`.
    pub(crate) fn during(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("{doing}: {error}"))
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
