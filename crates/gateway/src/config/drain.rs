//! How an instance goes away: `[drain]`.

use std::time::Duration;

use super::raw::RawConfig;

/// A client that never answers a close is cut off after this long; what is moved last needs as much.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the process needs behind that: whoever is left is cut (2 s), records are written (2 s), and the lease is given back
/// (1 s).
pub(crate) const ENDING: Duration = Duration::from_secs(5);

/// Checked `[drain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainConfig {
    /// Over how much time clients are moved, when there are many.
    pub window: Duration,
    /// When whoever is still there is cut, and the process ends.
    pub grace: Duration,
    /// When the process is stopped by force, if that is known.
    pub kill_after: Option<Duration>,
}

impl DrainConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let drain = Self {
            window: raw.ms("drain.window_ms"),
            grace: raw.ms("drain.grace_ms"),
            kill_after: raw.optional_ms("drain.kill_after_ms"),
        };
        let least = drain.window + CLOSE_TIMEOUT;
        if drain.grace < least {
            let (least, close) = (least.as_millis(), CLOSE_TIMEOUT.as_millis());
            let rule = format!("drain.window_ms and the {close} ms that a client may take to close");
            raw.wrong("drain.grace_ms", format!("at least {least}, which is {rule}"));
        }
        let least = drain.grace + ENDING;
        if drain.kill_after.is_some_and(|kill_after| kill_after < least) {
            let (least, ending) = (least.as_millis(), ENDING.as_millis());
            let rule = format!("drain.grace_ms and the {ending} ms that the process may take to end");
            let remedy = "give the process more time where it is stopped by force, or less for its drain";
            raw.wrong("drain.kill_after_ms", format!("at least {least}, which is {rule}: {remedy}"));
        }
        drain
    }
}
