//! PURE. Rows of ended incarnations, and how long they have stayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One incarnation: the instance id and the incarnation id.
pub(crate) type IncarnationId = (String, String);

/// The registry at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The sessions of each incarnation that has any.
    pub(crate) sessions: BTreeMap<IncarnationId, BTreeSet<String>>,
    /// The incarnation of each instance that holds its lease.
    pub(crate) holders: BTreeMap<String, String>,
}

/// The most that one interval between two reads counts, because nothing can be removed while Redis is down.
const LOOK_MAX: Duration = Duration::from_millis(1_000);

#[derive(Debug, Default)]
pub(crate) struct StaleRows {
    looked: Option<Instant>,
    /// Incarnations that have ended, whatever their lease says.
    dead: BTreeSet<IncarnationId>,
    /// How long the rows of each incarnation have been seen.
    seen: BTreeMap<IncarnationId, Duration>,
    /// The longest of these times, with its incarnation.
    pub(crate) longest: Option<(Duration, IncarnationId)>,
}

impl StaleRows {
    /// The process of this instance was killed.
    pub(crate) fn died(&mut self, id: &str, rows: &Rows) {
        if let Some(incarnation) = rows.holders.get(id) {
            self.dead.insert((id.to_owned(), incarnation.clone()));
        }
    }

    pub(crate) fn look(&mut self, rows: &Rows, now: Instant) {
        let pause = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked)).min(LOOK_MAX);
        self.looked = Some(now);
        let is_over = |incarnation_id: &IncarnationId| {
            self.dead.contains(incarnation_id) || rows.holders.get(&incarnation_id.0) != Some(&incarnation_id.1)
        };
        let stale_rows: Vec<&IncarnationId> =
            rows.sessions.keys().filter(|incarnation_id| is_over(incarnation_id)).collect();
        self.seen.retain(|incarnation_id, _| stale_rows.contains(&incarnation_id));
        for incarnation_id in stale_rows {
            let seen = self.seen.entry(incarnation_id.clone()).and_modify(|seen| *seen += pause).or_default();
            if self.longest.as_ref().is_none_or(|(longest, _)| *seen > *longest) {
                self.longest = Some((*seen, incarnation_id.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(holder: &str, with_rows: &[&str]) -> Rows {
        let sessions = with_rows.iter().map(|inc| (("gw-1".into(), (*inc).to_owned()), BTreeSet::new())).collect();
        Rows { sessions, holders: [("gw-1".to_owned(), holder.to_owned())].into() }
    }

    #[test]
    fn rows_of_a_life_without_its_lease_are_ghosts_and_time_without_looks_is_not_theirs() {
        let (mut stale_rows, start) = (StaleRows::default(), Instant::now());
        let mut look = |rows: &Rows, ms: u64| {
            stale_rows.look(rows, start + Duration::from_millis(ms));
            stale_rows.longest.as_ref().map(|(longest, _)| longest.as_millis())
        };
        assert_eq!(look(&rows("1", &["1"]), 0), None, "it lives");
        assert_eq!(look(&rows("2", &["1", "2"]), 500), Some(0));
        assert_eq!(look(&rows("2", &["1", "2"]), 1_000), Some(500));
        assert_eq!(look(&rows("2", &["1", "2"]), 9_000), Some(1_500), "Redis was away");
        assert_eq!(look(&rows("2", &["2"]), 9_500), Some(1_500));
        assert_eq!(look(&rows("3", &["2"]), 10_000), Some(1_500), "another one begins at nothing");
    }

    #[test]
    fn the_killed_are_ghosts_although_their_lease_runs() {
        let (mut stale_rows, start) = (StaleRows::default(), Instant::now());
        stale_rows.died("gw-1", &rows("1", &["1"]));
        stale_rows.look(&rows("1", &["1"]), start);
        stale_rows.look(&rows("1", &["1"]), start + Duration::from_millis(300));
        assert_eq!(stale_rows.longest.map(|(longest, _)| longest.as_millis()), Some(300));
    }
}
