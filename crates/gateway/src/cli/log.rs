//! Writes the events of this process to standard error.

use std::io::IsTerminal;

use tidegate_gateway::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// The log of this process, for changes of its filter.
pub(crate) struct Log(Box<dyn Fn(EnvFilter)>);

/// Installs the log of this process.
///
/// # Panics
/// If a log is already installed.
pub(crate) fn install_log(config: &LogConfig) -> Log {
    let log = tracing_subscriber::fmt().with_env_filter(filter(config)).with_writer(std::io::stderr);
    // Colours are only for a terminal, not for files and log collectors.
    let log = log.with_ansi(std::io::stderr().is_terminal());
    // This fails only if the log is gone, which it is at the end of the process.
    match config.format {
        LogFormat::Text => {
            let log = log.with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let log = log.json().with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Log(Box::new(move |filter| drop(handle.reload(filter))))
        }
    }
}

impl Log {
    /// Logs other events from now on.
    pub(crate) fn set_filter(&self, config: &LogConfig) {
        (self.0)(filter(config));
    }
}

fn filter(config: &LogConfig) -> EnvFilter {
    EnvFilter::builder().parse(&config.filter).expect("checked with the configuration")
}
