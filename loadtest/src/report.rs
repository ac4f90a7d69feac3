//! The output of a run: the machine, then each figure beside its limit.

use std::fmt;

/// One row of the table.
#[derive(Debug, Clone)]
pub(crate) struct BudgetRow {
    /// What was measured, and under which conditions.
    pub(crate) what: String,
    /// The figure, with its unit.
    pub(crate) measured: String,
    /// The budget, or a dash.
    pub(crate) limit: String,
    pub(crate) verdict: BudgetVerdict,
    /// Information about the figure that does not fit into the row.
    pub(crate) notes: Vec<String>,
}

/// The comparison of a figure with its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetVerdict {
    /// The figure is within the budget.
    Met,
    /// The figure exceeds the budget. The run still succeeds, because a slow machine is not a defect.
    Missed,
    /// The figure has no budget. It is printed beside a figure that has one.
    Stated,
}

impl BudgetVerdict {
    /// The verdict on a figure that may be at most `limit`.
    pub(crate) fn at_most(measured: f64, limit: f64) -> Self {
        if measured <= limit { Self::Met } else { Self::Missed }
    }

    /// The verdict on a figure that must be at least `limit`.
    pub(crate) fn at_least(measured: f64, limit: f64) -> Self {
        if measured >= limit { Self::Met } else { Self::Missed }
    }
}

impl fmt::Display for BudgetVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Stated => "stated",
        })
    }
}

/// The smallest, the median and the largest value of several repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of at least one value. For an even number, the median is the mean of the middle two.
    ///
    /// # Panics
    /// If there are no values, or if one is not a number.
    pub(crate) fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a spread needs a value");
        let mut sorted = values.to_vec();
        sorted.sort_by(|a, b| a.partial_cmp(b).expect("measured values are numbers"));
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { min: sorted[0], median: low.midpoint(high), max: sorted[sorted.len() - 1] }
    }
}

/// A whole number with separated thousands.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The table of `rows`, as wide as its widest cells.
pub(crate) fn table(rows: &[BudgetRow]) -> String {
    let widest = |cell: fn(&BudgetRow) -> &str, head: &str| {
        rows.iter().map(|r| cell(r).chars().count()).max().unwrap_or(0).max(head.len())
    };
    let what = widest(|row| &row.what, "what");
    let measured = widest(|row| &row.measured, "measured");
    let limit = widest(|row| &row.limit, "limit");
    let mut out = format!("{:what$} | {:measured$} | {:limit$} | verdict\n", "what", "measured", "limit");
    out += &format!("{:-<what$}-+-{:-<measured$}-+-{:-<limit$}-+--------\n", "", "", "");
    for row in rows {
        out += &format!("{:what$} | {:measured$} | {:limit$} | {}\n", row.what, row.measured, row.limit, row.verdict);
    }
    for row in rows.iter().filter(|row| !row.notes.is_empty()) {
        out += &format!("\n{}:\n", row.what);
        for note in &row.notes {
            out += &format!("  {note}\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_wild_pair() {
        let spread = Spread::of(&[1.10, 9.0, 1.08, 1.12, 1.09]);
        assert_eq!(spread, Spread { min: 1.08, median: 1.10, max: 9.0 });
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(&[7.0]), Spread { min: 7.0, median: 7.0, max: 7.0 });
    }

    #[test]
    fn a_figure_on_its_limit_meets_it() {
        assert_eq!(BudgetVerdict::at_most(1.15, 1.15), BudgetVerdict::Met);
        assert_eq!(BudgetVerdict::at_most(1.151, 1.15), BudgetVerdict::Missed);
        assert_eq!(BudgetVerdict::at_least(2e6, 2e6), BudgetVerdict::Met);
        assert_eq!(BudgetVerdict::at_least(1_999_999.0, 2e6), BudgetVerdict::Missed);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_000.4), "1,000");
        assert_eq!(thousands(2_345_678.0), "2,345,678");
        assert_eq!(thousands(-12_345.0), "-12,345");
    }

    #[test]
    fn every_row_and_note_is_in_the_table() {
        let row = BudgetRow {
            what: "figure".into(),
            measured: "3".into(),
            limit: "≤ 2".into(),
            verdict: BudgetVerdict::Missed,
            notes: vec!["why".into()],
        };
        let text = table(&[row]);
        assert!(text.contains("figure | 3        | ≤ 2   | MISSED\n"), "{text}");
        assert!(text.ends_with("\nfigure:\n  why\n"), "{text}");
    }
}
