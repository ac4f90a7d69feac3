//! Clients that are to reconnect to other instances, one after the other.

use std::time::Duration;

/// After a lost lease the clients of an instance are sent to other instances, spread over this time.
pub(crate) const SPREAD: Duration = Duration::from_secs(5);

/// A number of clients, each with its own delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departures {
    pub(crate) count: usize,
    /// The delay of the first client.
    pub(crate) after: Duration,
    /// The delay between one client and the next.
    pub(crate) step: Duration,
}

impl Departures {
    /// `count` clients, spread over `span`.
    pub(crate) fn spread(count: usize, span: Duration) -> Self {
        Self { count, after: Duration::ZERO, step: span / count.max(1) as u32 }
    }

    /// All clients, without a delay.
    pub(crate) fn everybody() -> Self {
        Self { count: usize::MAX, after: Duration::ZERO, step: Duration::ZERO }
    }

    /// Splits off the first `count`.
    pub(crate) fn split(&mut self, count: usize) -> Self {
        let first = Self { count: count.min(self.count), ..*self };
        self.count -= first.count;
        self.after += self.step * first.count as u32;
        first
    }

    /// The delay of each client, in milliseconds.
    pub(crate) fn after_ms(self) -> impl Iterator<Item = u64> {
        let Self { count, after, step } = self;
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(move |n| (after + step * n).as_millis() as u64)
    }
}
