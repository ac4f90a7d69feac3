//! The results of the trials as text. Each figure is beside its bound.

use std::fmt::Write as _;

/// One figure.
#[derive(Debug)]
struct ReportRow {
    what: String,
    measured: String,
    /// The bound that the figure must keep, if any.
    check: Option<Check>,
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    bound: String,
    holds: bool,
}

/// The figures of one trial.
#[derive(Debug)]
pub(crate) struct Report {
    trial: String,
    rows: Vec<ReportRow>,
}

impl Report {
    pub(crate) fn new(trial: String) -> Self {
        Self { trial, rows: Vec::new() }
    }

    /// Adds a figure without a bound.
    pub(crate) fn note_figure(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push(ReportRow { what: what.into(), measured: measured.into(), check: None });
    }

    /// Adds a figure with a bound. The trial fails if the figure exceeds it.
    pub(crate) fn check(
        &mut self,
        name: &'static str,
        holds: bool,
        what: impl Into<String>,
        measured: impl Into<String>,
        bound: impl Into<String>,
    ) {
        let check = Check { name, bound: bound.into(), holds };
        self.rows.push(ReportRow { what: what.into(), measured: measured.into(), check: Some(check) });
    }

    /// Whether every bound was kept. A trial without bounds proves nothing.
    pub(crate) fn is_good(&self) -> bool {
        let mut checks = self.rows.iter().filter_map(|row| row.check.as_ref()).peekable();
        checks.peek().is_some() && checks.all(|check| check.holds)
    }

    /// The first failed check with one of these names.
    pub(crate) fn shows(&self, names: &[String]) -> Option<&'static str> {
        let failed = self.rows.iter().filter_map(|row| row.check.as_ref()).filter(|check| !check.holds);
        failed.map(|check| check.name).find(|name| names.iter().any(|wanted| wanted == name))
    }

    /// The figures as a table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n", self.trial);
        for ReportRow { what, measured, check } in &self.rows {
            let _ = write!(text, "  {what:<68} {measured:>16}");
            if let Some(Check { name, bound, holds }) = check {
                let word = if *holds { "ok" } else { "FAILED" };
                let _ = write!(text, "   {bound:<28} {word} ({name})");
            }
            text.push('\n');
        }
        text
    }
}

/// Microseconds as seconds with two decimals.
pub(crate) fn seconds(us: u64) -> String {
    format!("{:.2} s", us as f64 / 1e6)
}

/// The value below which this share of the values lies.
pub(crate) fn share(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).ceil() as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_bound_fails_the_trial_and_is_named() {
        let mut report = Report::new("storm".into());
        report.note_figure("clients", "300");
        assert!(!report.is_good(), "nothing was checked");
        report.check("stale-rows", true, "rows gone", "8.10 s", "within 10 s");
        assert!(report.is_good());
        report.check("back", false, "all back", "9.00 s", "within 5 s");
        assert!(!report.is_good());
        assert_eq!(report.shows(&["stale-rows".into(), "back".into()]), Some("back"));
        assert_eq!(report.shows(&["stale-rows".into()]), None);
        assert!(report.table().contains("FAILED (back)"), "{}", report.table());
    }

    #[test]
    fn a_share_of_few_values_is_one_of_them() {
        assert_eq!(share(&mut [], 0.99), 0);
        assert_eq!(share(&mut [7], 0.5), 7);
        assert_eq!(share(&mut [3, 1, 2], 0.5), 2);
        assert_eq!(share(&mut [3, 1, 2], 0.99), 3);
    }
}
