//! Intervals and lifetimes of the registry, and the relations that they must have.

use std::time::Duration;

/// Intervals and lifetimes of the registry. [`Timings::problems`] lists broken relations between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Time from one heartbeat to the next.
    pub heartbeat: Duration,
    /// Lifetime of a lease that is not renewed.
    pub lease: Duration,
    /// The rows of a peer that has been silent for this long may be removed.
    pub reap: Duration,
    /// Deadline of one call to the store.
    pub call: Duration,
    /// Lifetime of directory rows after the last heartbeat. It only removes rows that no peer has removed.
    pub rows: Duration,
    /// A member whose last connection has ended leaves after this time, unless it returns.
    pub grace: Duration,
    /// Lifetime of a session's record.
    pub record: Duration,
}

/// The owner's defaults, in milliseconds, as in the example configuration.
const HEARTBEAT_MS: u64 = 2_000;
const LEASE_MS: u64 = 6_000;
const REAP_MS: u64 = 8_000;
const CALL_MS: u64 = 1_000;
const ROWS_MS: u64 = 60_000;
const GRACE_MS: u64 = 5_000;
const RECORD_MS: u64 = 120_000;

/// The instance gives up one part in this number of a lease, because clocks drift apart. 10 % is far more than any
/// clock drifts, and also covers a reply of Redis that scheduling delays.
const DRIFT_PARTS: u32 = 10;

const _: () = assert!(LEASE_MS - LEASE_MS / DRIFT_PARTS as u64 >= 2 * HEARTBEAT_MS + CALL_MS);
const _: () = assert!(REAP_MS >= LEASE_MS + HEARTBEAT_MS);
const _: () = assert!(CALL_MS <= HEARTBEAT_MS);
const _: () = assert!(ROWS_MS >= 2 * REAP_MS);

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            lease: Duration::from_millis(LEASE_MS),
            reap: Duration::from_millis(REAP_MS),
            call: Duration::from_millis(CALL_MS),
            rows: Duration::from_millis(ROWS_MS),
            grace: Duration::from_millis(GRACE_MS),
            record: Duration::from_millis(RECORD_MS),
        }
    }
}

impl Timings {
    /// The instance stops using its lease this long before the lease ends in Redis.
    pub(crate) fn drift(&self) -> Duration {
        self.lease / DRIFT_PARTS
    }

    /// All broken relations, so that a configuration reports all of them at once.
    #[must_use]
    pub fn problems(&self) -> Vec<BadTimings> {
        let checks = [
            (self.heartbeat.is_zero() || self.call.is_zero() || self.record.is_zero(), BadTimings::Zero),
            (self.lease.saturating_sub(self.drift()) < 2 * self.heartbeat + self.call, BadTimings::LeaseTooShort),
            (self.reap < self.lease + self.heartbeat, BadTimings::ReapTooEarly),
            (self.call > self.heartbeat, BadTimings::CallTooLong),
            (self.rows < 2 * self.reap, BadTimings::RowsTooShort),
        ];
        checks.into_iter().filter(|(broken, _)| *broken).map(|(_, problem)| problem).collect()
    }
}

/// A broken relation between two timings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTimings {
    /// A loop would never wait.
    #[error("heartbeat, call and record must be longer than zero")]
    Zero,
    /// One failed renewal would lose the lease.
    #[error("nine tenths of the lease must hold two heartbeats and one call, so that one missed renewal costs nothing")]
    LeaseTooShort,
    /// A peer could be removed before its lease has ended.
    #[error("reap must be at least lease + heartbeat, so that a peer is given up only after its lease has ended")]
    ReapTooEarly,
    /// A call could last until after the next heartbeat is due.
    #[error("a call must not be allowed more time than a heartbeat")]
    CallTooLong,
    /// Rows could expire before a peer removes them.
    #[error("rows must live for at least twice the reap time, so that the reaper still finds them")]
    RowsTooShort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Timings::default().problems(), []);
    }

    #[test]
    fn every_broken_relation_is_reported_at_once() {
        let second = Duration::from_secs(1);
        let default = Timings::default();
        let timings =
            Timings { heartbeat: second, lease: second, reap: second, call: 2 * second, rows: second, ..default };
        assert_eq!(
            timings.problems(),
            [BadTimings::LeaseTooShort, BadTimings::ReapTooEarly, BadTimings::CallTooLong, BadTimings::RowsTooShort]
        );
        let timings = Timings { heartbeat: Duration::ZERO, ..Timings::default() };
        assert_eq!(timings.problems(), [BadTimings::Zero, BadTimings::CallTooLong]);
    }
}
