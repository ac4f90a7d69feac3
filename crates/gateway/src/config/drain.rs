//! How an instance goes away: `[drain]`.

use std::time::Duration;

use super::raw::RawConfig;

/// A client that never answers a close is cut off after this long; what is moved last needs as much.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Checked `[drain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainConfig {
    /// Over how much time clients are moved, when there are many.
    pub window: Duration,
    /// When whoever is still there is cut, and the process ends.
    pub grace: Duration,
}

impl DrainConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let drain = Self { window: raw.ms("drain.window_ms"), grace: raw.ms("drain.grace_ms") };
        let least = drain.window + CLOSE_TIMEOUT;
        if drain.grace < least {
            let (least, close) = (least.as_millis(), CLOSE_TIMEOUT.as_millis());
            let rule = format!("drain.window_ms and the {close} ms that a client may take to close");
            raw.wrong("drain.grace_ms", format!("at least {least}, which is {rule}"));
        }
        drain
    }
}
