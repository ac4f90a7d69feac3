//! Alternating windows of baseline and gateway, and the ratio of their CPU per unit. Rows 1, 2, 8 and 10 share them.

use super::audience::Run;
use crate::failure::Failure;
use crate::report::{BudgetRow, BudgetVerdict, Spread, thousands};
use crate::window::{FOREIGN_CORES_MAX, Spent};

/// At most this many attempts are made per wanted pair, if other processes disturb the pairs.
const ATTEMPTS_PER_PAIR: usize = 4;

/// One window of each side, directly after each other.
#[derive(Debug)]
pub(super) struct Pair {
    /// CPU per unit of the baseline in microseconds.
    pub(super) bare_us: f64,
    pub(super) bare: Spent,
    pub(super) run: Run,
}

/// The pairs that count for the result.
#[derive(Debug)]
pub(super) struct Pairs {
    kept: Vec<Pair>,
    /// Number of pairs that were left out because other processes ran on this machine.
    disturbed: usize,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.run.cpu_us_per_delivery() / self.bare_us
    }

    fn foreign_cores(&self) -> f64 {
        self.bare.foreign_cores().max(self.run.spent.foreign_cores())
    }
}

impl Pairs {
    /// Takes `wanted` pairs. A pair during which other processes ran is repeated, whatever its ratio. If the machine
    /// does not become quiet, the least disturbed pairs count, and the report says so.
    pub(super) fn take(wanted: usize, mut next: impl FnMut() -> Result<Pair, Failure>) -> Result<Self, Failure> {
        let (mut taken, mut quiet) = (Vec::new(), 0);
        while quiet < wanted && taken.len() < wanted * ATTEMPTS_PER_PAIR {
            let pair = next()?;
            quiet += usize::from(pair.bare.is_quiet() && pair.run.spent.is_quiet());
            taken.push(pair);
        }
        let disturbed = taken.len() - wanted;
        taken.sort_by(|a, b| a.foreign_cores().total_cmp(&b.foreign_cores()));
        taken.truncate(wanted);
        Ok(Self { kept: taken, disturbed })
    }

    /// A row of the report: the median of the ratios beside `limit`.
    pub(super) fn row(&self, what: String, baseline: &str, limit: f64, frame_bytes: usize) -> BudgetRow {
        let spread = |value: fn(&Pair) -> f64| Spread::of(&self.kept.iter().map(value).collect::<Vec<_>>());
        let (ratio, bare) = (spread(Pair::ratio), spread(|pair| pair.bare_us));
        let gateway = spread(|pair| pair.run.cpu_us_per_delivery());
        let p99 = spread(|pair| pair.run.latencies.quantile_ms(0.99));
        let ratios = self.kept.iter().map(|pair| format!("{:.3}", pair.ratio())).collect::<Vec<_>>().join(" ");
        let deliveries: u64 = self.kept.iter().map(|pair| pair.run.deliveries).sum();
        BudgetRow {
            what,
            measured: format!("{:.3} × {baseline}", ratio.median),
            limit: format!("≤ {limit} ×"),
            verdict: BudgetVerdict::at_most(ratio.median, limit),
            notes: vec![
                format!("ratios of {} pairs: {ratios} (min {:.3}, max {:.3})", self.kept.len(), ratio.min, ratio.max),
                format!("{baseline} {:.2} µs per write ({:.2} to {:.2})", bare.median, bare.min, bare.max),
                format!("gateway {:.2} µs per delivery ({:.2} to {:.2})", gateway.median, gateway.min, gateway.max),
                format!("{} deliveries, each counted; frames of {frame_bytes} bytes", thousands(deliveries as f64)),
                format!("publish to receipt p99 {:.1} ms ({:.1} to {:.1})", p99.median, p99.min, p99.max),
                self.quiet_note(),
            ],
        }
    }

    fn quiet_note(&self) -> String {
        let most = self.kept.iter().map(Pair::foreign_cores).fold(0.0, f64::max);
        let advice = if most > FOREIGN_CORES_MAX { ": too much, do not quote" } else { "" };
        let repeated = match self.disturbed {
            0 => String::new(),
            count => format!("{count} pairs more were left out because others ran; "),
        };
        format!("{repeated}beside these, others on this machine used up to {most:.2} cores{advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latencies::Latencies;
    use crate::publisher::Published;
    use std::time::Duration;

    /// A pair with this ratio, while other processes used this many cores.
    fn pair(ratio: f64, foreign_cores: f64) -> Pair {
        let (wall, client_cpu) = (Duration::from_secs(1), Duration::ZERO);
        let spent = |server_us: f64| {
            let server_cpu = Duration::from_secs_f64(server_us / 1e6);
            Spent { wall, server_cpu, client_cpu, foreign_cpu: wall.mul_f64(foreign_cores) }
        };
        let published = Published { end: 1, kept_pace: true, cpu: Duration::ZERO };
        let run = Run { published, deliveries: 1_000, spent: spent(ratio * 1_000.0), latencies: Latencies::new() };
        Pair { bare_us: 1.0, bare: spent(1_000.0), run }
    }

    fn take(mut pairs: Vec<Pair>, wanted: usize) -> (Pairs, usize) {
        pairs.reverse();
        let taken = Pairs::take(wanted, || Ok(pairs.pop().expect("no more than there are"))).expect("no failure");
        (taken, pairs.len())
    }

    #[test]
    fn the_median_of_the_ratios_is_compared() {
        let (pairs, _) = take(vec![pair(1.1, 0.0), pair(3.0, 0.0), pair(1.0, 0.0)], 3);
        let row = pairs.row("row".into(), "loop", 1.15, 170);
        assert_eq!((row.measured.as_str(), row.verdict), ("1.100 × loop", BudgetVerdict::Met));
        assert_eq!(pairs.row("row".into(), "loop", 1.05, 170).verdict, BudgetVerdict::Missed);
    }

    #[test]
    fn a_disturbed_pair_is_repeated_whatever_its_ratio() {
        let (pairs, unused) = take(vec![pair(0.5, 0.9), pair(1.2, 0.0), pair(9.0, 0.9), pair(1.4, 0.0)], 2);
        assert_eq!((unused, pairs.disturbed), (0, 2));
        let row = pairs.row("row".into(), "loop", 1.15, 170);
        assert_eq!(row.measured, "1.300 × loop");
        assert!(row.notes.iter().any(|note| note.starts_with("2 pairs more were left out")), "{:?}", row.notes);
    }

    #[test]
    fn a_machine_that_never_rests_is_told_of() {
        let pairs = (0..8).map(|number| pair(1.0, 0.2 + f64::from(number) / 10.0)).collect();
        let (pairs, unused) = take(pairs, 2);
        assert_eq!((unused, pairs.disturbed), (0, 6));
        let row = pairs.row("row".into(), "loop", 1.15, 170);
        assert!(row.notes.iter().any(|note| note.ends_with("0.30 cores: too much, do not quote")), "{:?}", row.notes);
    }
}
