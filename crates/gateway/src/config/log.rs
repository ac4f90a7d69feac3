//! The log on standard error: `[log]`.

use super::raw::RawConfig;

/// The checked values of `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The events that are logged, in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
    /// The format of each line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of text for people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

impl LogConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let format = if raw.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Text };
        Self { filter: raw.text("log.filter").to_owned(), format }
    }
}
