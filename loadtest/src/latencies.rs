//! A histogram of durations in microseconds, with three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// One minute. A longer duration is recorded as one minute.
const LONGEST_US: u64 = 60_000_000;

/// A histogram of durations.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// A histogram without values.
    pub(crate) fn new() -> Self {
        // The bounds are fixed. A resizable histogram does not grow in `saturating_record`, and would show 2 ms at
        // most.
        Self(
            Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order and three digits are allowed"),
        )
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// The latency that this share of the values does not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// The longest latency in milliseconds.
    pub(crate) fn longest_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits_from_microseconds_to_a_minute() {
        let mut latencies = Latencies::new();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert!((latencies.quantile_ms(0.5) - 50.0).abs() < 0.1, "{}", latencies.quantile_ms(0.5));
        assert!((latencies.quantile_ms(0.99) - 99.0).abs() < 0.1, "{}", latencies.quantile_ms(0.99));
        latencies.record(Duration::from_secs(3_600));
        assert!((latencies.longest_ms() - 60_000.0).abs() < 60.0, "{}", latencies.longest_ms());
    }
}
