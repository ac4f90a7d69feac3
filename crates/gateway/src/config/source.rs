//! Where settings come from. The only place that reads the environment.

use std::path::PathBuf;

/// Everything a configuration is made of, handed in so that tests need no environment.
#[derive(Debug, Default)]
pub struct Sources {
    /// From the command line; they outweigh everything.
    pub flags: Vec<FlagSetting>,
    /// Name and text of variables; those that do not begin with `TIDEGATE_` are passed over.
    pub environment: Vec<(String, String)>,
    /// `--config`; outweighs `TIDEGATE_CONFIG`.
    pub file: Option<PathBuf>,
    /// This machine's name, for the default of `instance`.
    pub host: Option<String>,
}

/// One flag that sets a key.
#[derive(Debug, Clone)]
pub struct FlagSetting {
    /// The flag as problems name it: `--listen`, `--set limits.ping_interval_ms`.
    pub written: String,
    /// The key it sets.
    pub key: String,
    /// To what.
    pub text: String,
}

impl Sources {
    /// The flags given, and the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagSetting>) -> Self {
        // Bytes that are not UTF-8 become U+FFFD. No key but a secret takes that character, and a mangled secret
        // is caught where it is checked.
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        // Containers and shells say HOSTNAME; elsewhere Linux keeps it here, and macOS gets a random name.
        let host = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        Self { flags, environment, file, host: host.map(|host| host.trim().to_owned()) }
    }
}
