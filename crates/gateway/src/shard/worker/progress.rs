//! The reports of a shard to the watchdog.

use super::*;

impl Worker {
    pub(super) fn report(&self, due: Instant, now: Instant) {
        self.reported.set(now);
        self.health.watchdog().report(Loop::Shard(self.index.0.into()), due, now);
    }

    /// Reports from the middle of a long turn: a thread that makes progress is busy and not stuck.
    pub(super) fn report_progress(&self, now: Instant) {
        let due = self.reported.get() + watchdog::REPORT_INTERVAL;
        if now >= due {
            self.report(due, now);
        }
    }
}
