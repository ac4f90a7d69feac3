//! When an instance moves clients to emptier instances: `[rebalance]`.

use std::time::Duration;

use super::raw::RawConfig;

/// The checked values of `[rebalance]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RebalanceConfig {
    /// Tolerated number of connections above the fleet's mean, as a fraction of the mean.
    pub tolerance: f64,
    /// Smallest tolerated number of connections above the fleet's mean. The larger of the two limits applies.
    pub surplus_min: u64,
    /// Largest number of clients moved per second; 0 turns rebalancing off.
    pub per_second: u32,
    /// Connections younger than this are not moved.
    pub spare: Duration,
}

impl RebalanceConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        Self {
            tolerance: raw.number("rebalance.tolerance_percent") as f64 / 100.0,
            surplus_min: raw.number("rebalance.surplus_min"),
            per_second: raw.count("rebalance.per_second"),
            spare: raw.ms("rebalance.spare_ms"),
        }
    }
}
