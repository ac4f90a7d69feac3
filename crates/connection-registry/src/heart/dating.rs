//! PURE. When connections came by the store's clock: all instances share it, and our own wall clock may be hours off.
//!
//! Of two connections of one session the later one stays, so the moments of different instances must compare. They are
//! as far off as a call to the store takes.

use std::time::{Duration, Instant};

use wire::Timestamp;

use crate::directory::RowChange;

/// One moment by two clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dating {
    /// By the store's.
    pub(super) there: Timestamp,
    /// By our monotonic one.
    pub(super) here: Instant,
}

impl Dating {
    /// What the store's clock said at a moment of ours.
    pub(super) fn date(self, moment: Instant) -> Timestamp {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let Timestamp(there) = self.there;
        match moment.checked_duration_since(self.here) {
            Some(after) => Timestamp(there.saturating_add(millis(after))),
            None => Timestamp(there.saturating_sub(millis(self.here - moment))),
        }
    }

    /// Dates the rows of sessions of which `came` knows when they came.
    pub(super) fn date_all(self, batch: &mut [RowChange], came: impl Fn(&RowChange) -> Option<Instant>) {
        for change in batch {
            let moment = came(change);
            if let (RowChange::Put(_, row), Some(moment)) = (change, moment) {
                row.connected_at = self.date(moment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dated_on_both_sides_of_the_one_that_is_known() {
        let here = Instant::now() + Duration::from_secs(60);
        let dating = Dating { there: Timestamp(1_000_000), here };
        assert_eq!(dating.date(here + Duration::from_millis(1_500)), Timestamp(1_001_500));
        assert_eq!(dating.date(here - Duration::from_millis(1_500)), Timestamp(998_500));
    }
}
