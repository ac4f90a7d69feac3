//! How often an instance heartbeats, how long its lease lasts, and how these must relate.

use std::time::Duration;

/// The registry's times. [`Timings::problems`] says which relations are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From one heartbeat to the next.
    pub heartbeat: Duration,
    /// How long a lease lasts without being renewed.
    pub lease: Duration,
    /// After this much silence a peer's rows may be taken over.
    pub reap: Duration,
    /// How long one call to the store may take.
    pub call: Duration,
    /// How long directory rows outlive the last heartbeat. A safety net for rows that nobody reaps, not the reaper.
    pub rows: Duration,
    /// How long a member whose last connection has ended may come back before it has left.
    pub grace: Duration,
    /// How long the record of a session waits for its client.
    pub record: Duration,
}

/// The owner's defaults, in milliseconds, as they stand in the example configuration.
const HEARTBEAT_MS: u64 = 2_000;
const LEASE_MS: u64 = 6_000;
const REAP_MS: u64 = 8_000;
const CALL_MS: u64 = 1_000;
const ROWS_MS: u64 = 60_000;
const GRACE_MS: u64 = 5_000;
const RECORD_MS: u64 = 120_000;

/// What clocks may differ by within one lease, as a part of it: 10 % is far more than any crystal drifts, and also
/// covers a Redis that is late to answer by a scheduling hiccup.
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
    /// How long before its end in Redis we stop believing in our own lease.
    pub(crate) fn drift(&self) -> Duration {
        self.lease / DRIFT_PARTS
    }

    /// Every broken relation, so that a configuration reports all of them at once.
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

/// A relation that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTimings {
    /// A loop that never waits.
    #[error("heartbeat, call and record must be longer than zero")]
    Zero,
    /// One lost heartbeat would lose the lease.
    #[error("nine tenths of the lease must hold two heartbeats and one call, so that one missed renewal costs nothing")]
    LeaseTooShort,
    /// A peer could be buried while its lease still runs.
    #[error("reap must be at least lease + heartbeat, so that a peer is given up only after its lease has ended")]
    ReapTooEarly,
    /// Calls would pile up.
    #[error("a call must not be allowed more time than a heartbeat")]
    CallTooLong,
    /// The safety net would act before the reaper.
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
