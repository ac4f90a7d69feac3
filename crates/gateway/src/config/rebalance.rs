//! When an instance sends clients to emptier ones: `[rebalance]`.

use std::time::Duration;

use super::raw::RawConfig;

/// Checked `[rebalance]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RebalanceConfig {
    /// How far above the fleet's mean is too far, as a part of it.
    pub tolerance: f64,
    /// And at least so many connections.
    pub surplus_min: u64,
    /// Clients moved per second at most; 0 for none.
    pub per_second: u32,
    /// Who has been connected for less is spared.
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
