//! When the heartbeat task acts: at heartbeats, and at syncs between them.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// The next heartbeat and the next sync.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    heartbeat_at: Instant,
    /// Time from the next heartbeat to the one after it.
    pause: Duration,
    sync_at: Option<Instant>,
}

impl Schedule {
    /// The first heartbeat is due at `now`, the second one after `first_pause`. The pause is a random part of the
    /// interval, so that instances that start together do not send their heartbeats together.
    pub(super) fn new(interval: Duration, first_pause: Duration, now: Instant) -> Self {
        Self { interval, heartbeat_at: now, pause: first_pause, sync_at: None }
    }

    /// A heartbeat starts at `now`.
    pub(super) fn start_heartbeat(&mut self, now: Instant) {
        self.heartbeat_at = now + self.pause;
        self.pause = self.interval;
    }

    /// The next heartbeat is due one interval after `now`.
    pub(super) fn postpone_heartbeat(&mut self, now: Instant) {
        self.heartbeat_at = now + self.interval;
    }

    /// Waits until the next heartbeat is due.
    pub(super) async fn heartbeat_due(&self) {
        sleep_until(self.heartbeat_at.into()).await;
    }

    /// Whether a sync is planned.
    pub(super) fn has_sync(&self) -> bool {
        self.sync_at.is_some()
    }

    /// Plans the next sync.
    pub(super) fn sync_at(&mut self, at: Instant) {
        self.sync_at = Some(at);
    }

    /// The planned sync starts.
    pub(super) fn clear_sync(&mut self) {
        self.sync_at = None;
    }

    /// Waits until the planned sync is due. Waits for ever if none is planned.
    pub(super) async fn sync_due(&self) {
        match self.sync_at {
            Some(at) => sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_heartbeat_follows_early_and_the_others_in_the_interval() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut schedule = Schedule::new(4 * second, second, start);
        assert_eq!(schedule.heartbeat_at, start);
        schedule.start_heartbeat(start);
        assert_eq!(schedule.heartbeat_at, start + second);
        schedule.start_heartbeat(start + second);
        assert_eq!(schedule.heartbeat_at, start + 5 * second);
        schedule.postpone_heartbeat(start + 2 * second);
        assert_eq!(schedule.heartbeat_at, start + 6 * second);
    }

    #[tokio::test]
    async fn a_sync_is_due_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(60), Duration::ZERO, now);
        assert!(!schedule.has_sync());
        schedule.sync_at(now);
        schedule.sync_due().await;
        assert!(schedule.has_sync());
        schedule.clear_sync();
        let waits = tokio::time::timeout(Duration::from_millis(5), schedule.sync_due()).await;
        assert!(waits.is_err() && !schedule.has_sync());
    }
}
