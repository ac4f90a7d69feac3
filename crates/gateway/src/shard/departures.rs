//! Clients that are to come back elsewhere, one after the other.

use std::time::Duration;

/// Clients of an instance that begins anew are asked to come back elsewhere spread over this time.
pub(crate) const SPREAD: Duration = Duration::from_secs(5);

/// So many, each told when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departures {
    pub(crate) count: usize,
    /// When the first one is to come back.
    pub(crate) after: Duration,
    /// From one to the next.
    pub(crate) step: Duration,
}

impl Departures {
    /// All `count` of them, spread over `span`.
    pub(crate) fn spread(count: usize, span: Duration) -> Self {
        Self { count, after: Duration::ZERO, step: span / count.max(1) as u32 }
    }

    /// Whoever is there, at once.
    pub(crate) fn everybody() -> Self {
        Self { count: usize::MAX, after: Duration::ZERO, step: Duration::ZERO }
    }

    /// Takes the first `count`.
    pub(crate) fn split(&mut self, count: usize) -> Self {
        let first = Self { count: count.min(self.count), ..*self };
        self.count -= first.count;
        self.after += self.step * first.count as u32;
        first
    }

    /// What each of them is told, in milliseconds.
    pub(crate) fn after_ms(self) -> impl Iterator<Item = u64> {
        let Self { count, after, step } = self;
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(move |n| (after + step * n).as_millis() as u64)
    }
}
