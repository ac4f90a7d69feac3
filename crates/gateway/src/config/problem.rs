//! What is wrong with a configuration, told all at once.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from, in order of weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line; the flag as it is written there.
    Flag(String),
    /// This environment variable.
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("nowhere"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or what stands where one should.
    pub key: String,
    /// What it was set to, secrets redacted; `None` when nothing set it or when it cannot be shown.
    pub value: Option<String>,
    /// Who set it.
    pub source: Source,
    /// What would have been right, to follow "expected ".
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        match (&self.value, &self.source) {
            (None, Source::Default) => f.write_str(" is not set")?,
            (Some(value), Source::Default) => write!(f, " = {value} (the default)")?,
            (None, source) => write!(f, " (from {source})")?,
            (Some(value), source) => write!(f, " = {value} (from {source})")?,
        }
        write!(f, "\n    expected {}", self.expected)
    }
}

/// Everything that is wrong. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "problem" } else { "problems" };
        writeln!(f, "{} {noun} in the configuration", self.0.len())?;
        self.0.iter().try_for_each(|problem| writeln!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
