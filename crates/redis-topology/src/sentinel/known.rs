//! PURE. The newest known primary, from what several Sentinels say at different times.
//!
//! ```text
//!   reports of one question ──▶ learn ──▶ newer: it is the primary now
//!                                    ├──▶ as known: confirmed
//!                                    └──▶ older: not believed, unless a majority has said nothing newer for FORGOTTEN_AFTER
//!   +switch-master, its epoch unknown ──▶ announced ──▶ the primary, until a newer report or FORGOTTEN_AFTER
//! ```
//!
//! Sentinels count their failovers: each failover makes a configuration with a higher epoch, and the Sentinels learn
//! of it one after the other. So a later answer may be an older one, and a majority may be behind for a moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::Node;

/// A report that is older than the known one is believed after a majority has given only older reports for this long:
/// the Sentinels were set up anew, or their failover did not complete. Sentinels tell each other of a failover every 2
/// s, and reset a server with an unknown role after 8 s; this is well above both.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// What one Sentinel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The configuration epoch: the number of the failover that made this server the primary. 0 before the first
    /// failover, and for a Sentinel that reports none.
    pub(super) epoch: u64,
    pub(super) primary: Node,
}

/// The newest report, and since when the Sentinels contradict it.
#[derive(Debug, Default)]
pub(super) struct KnownPrimary {
    /// Nothing before the first answer.
    newest: Option<Report>,
    /// Since the newest report only older ones have come.
    contradicted: Option<Contradiction>,
}

#[derive(Debug)]
struct Contradiction {
    /// When a majority first gave older reports; nothing while fewer than a majority answer.
    by_majority_since: Option<Instant>,
}

/// What a set of reports means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At least one report is as new as the known one.
    Current {
        /// Whether a majority says the same.
        is_settled: bool,
    },
    /// All reports are older than the known one, which stays.
    Stale {
        /// Whether no older reports came directly before these.
        is_first: bool,
    },
    /// All reports are older, and have been for so long that they are believed.
    Forgotten,
}

// === impl KnownPrimary ===

impl KnownPrimary {
    pub(super) fn newest(&self) -> Option<&Report> {
        self.newest.as_ref()
    }

    pub(super) fn primary(&self) -> Option<&Node> {
        self.newest.as_ref().map(|report| &report.primary)
    }

    /// Whether one of the reports is newer than the known one, or equal to it.
    pub(super) fn is_current(&self, reports: &[Report]) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|state| reports.iter().any(|report| report.epoch > state.epoch || report == state))
    }

    /// Takes in the reports of one query to `sentinels` Sentinels. There is at least one report.
    pub(super) fn learn(&mut self, reports: &[Report], sentinels: usize, now: Instant) -> Verdict {
        let same = |report: &Report| reports.iter().filter(|other| *other == report).count();
        // Two servers with one epoch come from Sentinels that were set up differently, or from two spellings of one
        // server.
        let Some(best) = reports.iter().max_by_key(|report| (report.epoch, same(report))) else {
            return Verdict::Stale { is_first: false };
        };
        let is_majority = |count: usize| count > sentinels / 2;
        if self.newest.is_none() || self.is_current(reports) {
            let state = self.newest.take().filter(|state| state.epoch >= best.epoch).unwrap_or_else(|| best.clone());
            let is_settled = is_majority(same(&state));
            (self.newest, self.contradicted) = (Some(state), None);
            return Verdict::Current { is_settled };
        }
        let is_first = self.contradicted.is_none();
        let contradiction = self.contradicted.get_or_insert(Contradiction { by_majority_since: None });
        if !is_majority(reports.len()) {
            return Verdict::Stale { is_first };
        }
        let since = *contradiction.by_majority_since.get_or_insert(now);
        if now.duration_since(since) < FORGOTTEN_AFTER {
            return Verdict::Stale { is_first };
        }
        (self.newest, self.contradicted) = (Some(best.clone()), None);
        Verdict::Forgotten
    }

    /// Takes in a failover that a Sentinel has announced without its epoch. It counts as newer than the known one, so
    /// reports of the known epoch with another server are older.
    pub(super) fn announced(&mut self, primary: Node) {
        let epoch = self.newest.as_ref().map_or(0, |state| state.epoch);
        (self.newest, self.contradicted) = (Some(Report { epoch, primary }), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u16 = 1;
    const B: u16 = 2;
    const C: u16 = 3;
    const SENTINELS: usize = 3;
    const SECOND: Duration = Duration::from_secs(1);
    const SETTLED: Verdict = Verdict::Current { is_settled: true };

    fn report(&(epoch, port): &(u64, u16)) -> Report {
        Report { epoch, primary: Node { host: "h".into(), port } }
    }

    /// The known primary, and a clock.
    struct Asker {
        state: KnownPrimary,
        now: Instant,
    }

    impl Asker {
        fn knowing(reports: &[(u64, u16)]) -> Self {
            let mut asker = Self { state: KnownPrimary::default(), now: Instant::now() };
            asker.learn(reports);
            asker
        }

        fn learn(&mut self, reports: &[(u64, u16)]) -> Verdict {
            let reports: Vec<_> = reports.iter().map(report).collect();
            self.state.learn(&reports, SENTINELS, self.now)
        }

        fn announced(&mut self, port: u16) {
            self.state.announced(report(&(0, port)).primary);
        }

        fn primary(&self) -> u16 {
            self.state.primary().unwrap().port
        }
    }

    #[test]
    fn the_newest_report_counts_and_a_majority_settles_it() {
        let mut asker = Asker::knowing(&[(5, A)]);
        assert_eq!(asker.learn(&[(5, A), (6, B), (5, A)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.primary(), B);
        assert_eq!(asker.learn(&[(5, A), (6, B), (6, B)]), SETTLED);
        assert_eq!(asker.learn(&[(6, B), (6, B)]), SETTLED);
        assert_eq!(asker.primary(), B);
    }

    #[test]
    fn a_stale_majority_is_not_believed() {
        let mut asker = Asker::knowing(&[(6, B)]);
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { is_first: false });
        assert_eq!(asker.primary(), B);
        // A majority that has lost its epochs, or reports none, is not believed either.
        assert_eq!(asker.learn(&[(0, A), (0, A)]), Verdict::Stale { is_first: false });
        assert_eq!(asker.learn(&[(5, A), (6, B)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.primary(), B);
    }

    #[test]
    fn a_failover_back_is_believed_and_an_older_failover_is_not() {
        let mut asker = Asker::knowing(&[(5, A)]);
        asker.learn(&[(6, B), (6, B), (6, B)]);
        assert_eq!(asker.learn(&[(7, A), (6, B), (6, B)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.primary(), A);
        assert_eq!(asker.learn(&[(6, B), (6, B)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.primary(), A);
    }

    #[test]
    fn an_announcement_outweighs_what_was_known_and_a_newer_report_outweighs_it() {
        let mut asker = Asker::knowing(&[(5, A), (5, A), (5, A)]);
        asker.announced(B);
        assert_eq!(asker.primary(), B);
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.primary(), B);
        assert_eq!(asker.learn(&[(5, A), (5, A), (6, B)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.primary(), B);
        asker.announced(C);
        assert_eq!(asker.learn(&[(7, A), (6, B)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.primary(), A);
    }

    #[test]
    fn without_epochs_the_announcement_is_the_order() {
        let mut asker = Asker::knowing(&[(0, A), (0, A), (0, A)]);
        asker.announced(B);
        assert_eq!(asker.learn(&[(0, A), (0, A)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.learn(&[(0, A), (0, B), (0, B)]), SETTLED);
        assert_eq!(asker.learn(&[(0, A), (0, A)]), Verdict::Stale { is_first: true });
        assert_eq!(asker.primary(), B);
    }

    #[test]
    fn an_announcement_that_is_never_confirmed_is_given_up_when_a_majority_holds_on() {
        let mut asker = Asker::knowing(&[(5, A)]);
        asker.announced(B);
        asker.learn(&[(5, A), (5, A), (5, A)]);
        asker.now += FORGOTTEN_AFTER - SECOND;
        assert_eq!(asker.learn(&[(5, A), (5, A), (5, A)]), Verdict::Stale { is_first: false });
        assert_eq!(asker.primary(), B);
        asker.now += SECOND;
        assert_eq!(asker.learn(&[(5, A), (5, A), (5, A)]), Verdict::Forgotten);
        assert_eq!(asker.primary(), A);
        assert_eq!(asker.learn(&[(5, A), (5, A), (5, A)]), SETTLED);
    }

    #[test]
    fn sentinels_that_were_set_up_anew_are_believed_in_the_end_even_where_the_primary_is_the_same() {
        let mut asker = Asker::knowing(&[(6, B)]);
        asker.learn(&[(0, B), (0, B), (0, B)]);
        asker.now += FORGOTTEN_AFTER;
        assert_eq!(asker.learn(&[(0, B), (0, B), (0, B)]), Verdict::Forgotten);
        assert_eq!(asker.learn(&[(1, A)]), Verdict::Current { is_settled: false }, "their first failover is newer");
        assert_eq!(asker.primary(), A);
    }

    #[test]
    fn a_current_report_begins_the_time_anew_and_a_minority_never_begins_it() {
        let mut asker = Asker::knowing(&[(6, B)]);
        asker.learn(&[(5, A), (5, A)]);
        asker.now += FORGOTTEN_AFTER;
        asker.learn(&[(5, A), (6, B)]);
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { is_first: true });
        asker.learn(&[(6, B)]);
        for _ in 0..10 {
            asker.now += FORGOTTEN_AFTER;
            assert!(matches!(asker.learn(&[(5, A)]), Verdict::Stale { .. }));
        }
        assert_eq!(asker.primary(), B);
        assert!(matches!(asker.learn(&[(5, A), (5, A)]), Verdict::Stale { .. }));
        asker.now += FORGOTTEN_AFTER;
        assert_eq!(asker.learn(&[(5, A), (5, A)]), Verdict::Forgotten);
    }

    #[test]
    fn of_one_epoch_the_known_one_stays_and_at_first_the_most_named_counts() {
        let mut asker = Asker::knowing(&[(0, A), (0, B), (0, B)]);
        assert_eq!(asker.primary(), B);
        assert_eq!(asker.learn(&[(0, A), (0, A), (0, B)]), Verdict::Current { is_settled: false });
        assert_eq!(asker.primary(), B);
    }
}
