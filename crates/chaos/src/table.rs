//! The combined results of all runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use history_checker::{AnomalyKind, Transport};

use crate::entrance::Via;
use crate::run::RunOutcome;

#[derive(Debug, Default)]
struct FaultRow {
    runs: u64,
    unproven: u64,
    not_injected: u64,
    messages: u64,
    deliveries: u64,
    resumed: u64,
    silent: u64,
    /// Number of gaps and of `found: false` in runs where nothing can have been lost.
    false_alarms: u64,
    /// Number of close codes and errors that are final.
    terminal: u64,
    /// Number of restored sessions of clients that keep nothing else.
    restored: u64,
    not_found: u64,
    gaps: u64,
    incomplete: u64,
    /// Number of ownership breaches.
    breaches: u64,
    stale_refused: u64,
    stale_rows_ms_max: u64,
    recovery_us: Vec<u64>,
}

/// The table: one row for each fault, path to the gateways and transport, and one row for all runs.
pub(crate) fn table(outcomes: &[RunOutcome]) -> String {
    let mut rows: BTreeMap<(bool, &str, Via, Transport), FaultRow> = BTreeMap::new();
    let mut all = FaultRow::default();
    for outcome in outcomes {
        rows.entry((outcome.loses, &outcome.fault, outcome.via, outcome.transport)).or_default().add(outcome);
        all.add(outcome);
    }
    let mut text = String::from(
        "fault             via     transport loses runs messages deliveries resumed restored not found silent false gaps terminal  gaps/M   recovery p50    p99    max ms   breaches refused stale rows ms\n",
    );
    for ((loses, fault, via, transport), row) in rows.iter_mut() {
        row.write(&format!("{fault:<17} {via:<7} {transport:<9} {:<5}", if *loses { "yes" } else { "no" }), &mut text);
    }
    all.write(&format!("{:<41}", "all"), &mut text);
    // Only runs with a proven fault and a complete log count for the bound.
    let judged = all.runs - all.unproven - all.not_injected - all.incomplete;
    if judged > 0 {
        let bound = 300.0 / judged as f64;
        let _ = writeln!(
            text,
            "no silent anomaly in n runs bounds their share by 3/n (95 %): {bound:.1} % here, if the count above is 0"
        );
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.is_impossible) {
        let _ =
            writeln!(text, "NOT INJECTED: {}: {}", outcome.fault, outcome.proof.as_ref().err().map_or("", |why| why));
    }
    text
}

impl FaultRow {
    fn add(&mut self, outcome: &RunOutcome) {
        self.runs += 1;
        self.breaches += outcome.ownership.breaches.len() as u64;
        self.stale_refused += outcome.ownership.stale_refused;
        self.stale_rows_ms_max = self.stale_rows_ms_max.max(outcome.ownership.stale_rows_ms_max);
        self.not_injected += u64::from(outcome.is_impossible);
        self.unproven += u64::from(outcome.proof.is_err() && !outcome.is_impossible);
        let Some(verdict) = &outcome.verdict else { return };
        self.messages += verdict.tally.messages;
        self.deliveries += verdict.tally.deliveries;
        self.resumed += verdict.tally.resumed;
        self.silent += verdict.silent();
        self.false_alarms +=
            verdict.counts.iter().filter(|(kind, _)| kind.is_false_alarm()).map(|(_, n)| n).sum::<u64>();
        self.terminal += verdict.count(AnomalyKind::TerminalCode);
        self.restored += verdict.tally.restored_exactly + verdict.tally.restored_with_repeats;
        self.not_found += verdict.tally.not_found;
        self.gaps += verdict.tally.gaps.values().sum::<u64>();
        self.incomplete += u64::from(!verdict.incomplete.is_empty());
        self.recovery_us.extend(&verdict.recovery_us);
    }

    fn write(&mut self, what: &str, text: &mut String) {
        self.recovery_us.sort_unstable();
        let ms = |share: f64| {
            let last = self.recovery_us.len().saturating_sub(1);
            self.recovery_us.get((last as f64 * share).round() as usize).map_or(0, |us| us / 1_000)
        };
        let per_million = self.gaps * 1_000_000 / self.deliveries.max(1);
        let Self {
            runs,
            messages,
            deliveries,
            resumed,
            silent,
            false_alarms,
            breaches,
            stale_refused,
            stale_rows_ms_max,
            ..
        } = self;
        let Self { restored, not_found, terminal, .. } = self;
        let _ = write!(
            text,
            "{what} {runs:>4} {messages:>8} {deliveries:>10} {resumed:>7} {restored:>8} {not_found:>9} {silent:>6} {false_alarms:>10} {terminal:>8} {per_million:>7}          {:>6} {:>6} {:>6}   {breaches:>8} {stale_refused:>7} {stale_rows_ms_max:>13}",
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
        for (count, what) in
            [(self.unproven, "NOT PROVEN"), (self.not_injected, "not injected"), (self.incomplete, "INCOMPLETE")]
        {
            if count > 0 {
                let _ = write!(text, "  {count} {what}");
            }
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use history_checker::{Checker, Verdict};

    use super::*;
    use crate::ownership::{Breach, Report};

    fn outcome(proof: Result<&str, &str>, is_impossible: bool, verdict: Option<Verdict>) -> RunOutcome {
        RunOutcome {
            fault: "cut".into(),
            via: Via::Direct,
            transport: Transport::WebSocket,
            seed: 1,
            proof: proof.map(str::to_owned).map_err(str::to_owned),
            is_impossible,
            loses: false,
            log: PathBuf::new(),
            verdict,
            ownership: Report::default(),
        }
    }

    #[test]
    fn a_run_with_a_breach_of_ownership_is_not_good() {
        let verdict =
            Verdict { tally: history_checker::Tally { deliveries: 1_000, ..Default::default() }, ..Verdict::default() };
        let mut run = outcome(Ok("x"), false, Some(verdict));
        assert!(run.is_good());
        run.ownership.breaches.push(Breach { kind: "stale_row", detail: "x".into() });
        assert!(!run.is_good());
        assert_eq!(run.shows(&["stale_row".into()]).as_deref(), Some("stale_row"));
    }

    #[test]
    fn a_run_that_shows_nothing_is_not_good_and_is_told_of() {
        // An empty log proves nothing, and neither does a clean verdict about it.
        let empty = outcome(Ok("x"), false, Some(Checker::new().conclude()));
        let idle = outcome(Ok("x"), false, Some(Verdict::default()));
        let unproven = outcome(Err("nobody saw it"), false, None);
        let impossible = outcome(Err("no nft"), true, None);
        let all = [empty, idle, unproven, impossible];
        assert!(all.iter().all(|outcome| !outcome.is_good()));
        let text = table(&all);
        assert!(text.contains("1 NOT PROVEN  1 not injected  1 INCOMPLETE"), "{text}");
        assert!(text.contains("NOT INJECTED: cut: no nft"), "{text}");
        assert!(text.contains("300.0 % here"), "one of four bounds anything: {text}");
    }
}
