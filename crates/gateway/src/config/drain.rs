//! How an instance stops: `[drain]`.

use std::time::Duration;

use super::raw::RawConfig;

/// A client that does not answer a close frame is disconnected after this time. The grace of a drain must be longer
/// than its window by this much, because the last client that is moved needs it too.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that the process needs after the grace: it disconnects the remaining clients (2 s), writes records (2 s), and
/// releases the lease (1 s).
pub(crate) const ENDING: Duration = Duration::from_secs(5);

/// The checked values of `[drain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainConfig {
    /// Time for which the instance reports that it is not ready, and still accepts clients, before it drains.
    pub delay: Duration,
    /// Time over which the clients are moved, if there are many.
    pub window: Duration,
    /// Time after which the remaining clients are disconnected and the process ends, from the start of the drain.
    pub grace: Duration,
    /// Time after which the process is killed, from the signal, if the operator has configured it.
    pub kill_after: Option<Duration>,
}

impl DrainConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let drain = Self {
            delay: raw.ms("drain.delay_ms"),
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
        let least = drain.delay + drain.grace + ENDING;
        if drain.kill_after.is_some_and(|kill_after| kill_after < least) {
            let (least, ending) = (least.as_millis(), ENDING.as_millis());
            let delay = if drain.delay.is_zero() { "" } else { "drain.delay_ms, " };
            let rule = format!("{delay}drain.grace_ms and the {ending} ms that the process may take to end");
            let remedy = "kill the process later, or shorten its drain";
            raw.wrong("drain.kill_after_ms", format!("at least {least}, which is {rule}: {remedy}"));
        }
        drain
    }
}
