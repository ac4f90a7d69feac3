//! The problems of a configuration, which are reported together.

use std::fmt;
use std::path::PathBuf;

/// The source of a value, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line, as it is written there.
    Flag(String),
    /// The environment variable with this name.
    Environment(String),
    /// The configuration file at this path.
    File(PathBuf),
    /// No source sets the key.
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

/// One problem of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, the unknown name, or the line of the file that is wrong.
    pub key: String,
    /// The configured value, with secrets redacted. `None` if no source sets the key or if the value must not be
    /// shown.
    pub value: Option<String>,
    /// The source that set it.
    pub source: Source,
    /// The text that follows "expected ".
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

/// All problems of a configuration. Never empty.
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
