//! How instances tell each other that they live.

use std::time::Duration;

use super::raw::RawConfig;

/// Checked `[registry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// How often an instance renews its lease.
    pub beat: Duration,
    /// How long a lease holds without a beat.
    pub lease: Duration,
    /// How long after its last beat an instance's rows are taken away.
    pub reap: Duration,
}

impl RegistryConfig {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let registry = Self {
            beat: raw.ms("registry.beat_ms"),
            lease: raw.ms("registry.lease_ms"),
            reap: raw.ms("registry.reap_ms"),
        };
        let beats = registry.beat * 2;
        if registry.lease < beats {
            // One lost beat must not cost the lease.
            let least = beats.as_millis();
            raw.wrong("registry.lease_ms", format!("at least {least}, which is 2 × registry.beat_ms"));
        }
        if registry.reap <= registry.lease {
            // Nobody may take rows away that their owner still believes to hold.
            let lease = registry.lease.as_millis();
            raw.wrong("registry.reap_ms", format!("more than registry.lease_ms, which is {lease}"));
        }
        registry
    }
}
