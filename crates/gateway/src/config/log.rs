//! What is written to standard error.

use super::raw::RawConfig;

/// Checked `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Which events, in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

impl LogConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let format = if raw.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Text };
        Self { filter: raw.text("log.filter").to_owned(), format }
    }
}
