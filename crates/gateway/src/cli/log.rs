//! Writes the events of this process to standard error.

use std::io::IsTerminal;

use tidegate_gateway::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Installs the log of this process.
///
/// # Panics
/// If a log is already installed.
pub(crate) fn install_log(config: &LogConfig) {
    let filter = EnvFilter::builder().parse(&config.filter).expect("checked with the configuration");
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours are only for a terminal, not for files and log collectors.
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
