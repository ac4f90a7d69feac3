//! The sources of settings. This is the only module that reads the environment.

use std::path::PathBuf;

/// All sources of a configuration. They are passed in, so that tests do not depend on the environment.
#[derive(Debug, Default)]
pub struct Sources {
    /// Settings of the command line. They take precedence over every other source.
    pub flags: Vec<FlagSetting>,
    /// Names and values of variables. Variables that do not begin with `TIDEGATE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// `--config`. It takes precedence over `TIDEGATE_CONFIG`.
    pub file: Option<PathBuf>,
    /// This machine's name, for the default of `instance`.
    pub host: Option<String>,
}

/// A flag that sets a key.
#[derive(Debug, Clone)]
pub struct FlagSetting {
    /// The flag as problems show it: `--listen`, `--set limits.ping_interval_ms`.
    pub written: String,
    /// The key that it sets.
    pub key: String,
    /// The value, as text.
    pub text: String,
}

impl Sources {
    /// The given flags, and the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagSetting>) -> Self {
        // Bytes that are not UTF-8 become U+FFFD. `RawConfig::gather` rejects the value of a key that contains it.
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        // Containers and shells set HOSTNAME. Otherwise Linux has the name in this file, and other systems use a
        // random name.
        let host = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        Self { flags, environment, file, host: host.map(|host| host.trim().to_owned()) }
    }
}
