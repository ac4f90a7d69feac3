//! The timings of leases, the directory and presence: `[registry]` and `presence.grace_ms`.

use connection_registry::{BadTimings, Timings};

use super::raw::RawConfig;

/// Builds the registry's timings. The operator sets heartbeat, lease, reap, record and grace; the other two follow
/// from them.
pub(super) fn check_timings(raw: &RawConfig) -> Timings {
    let (heartbeat, lease, reap) =
        (raw.ms("registry.heartbeat_interval_ms"), raw.ms("registry.lease_ms"), raw.ms("registry.reap_ms"));
    let record = raw.ms("registry.record_ms");
    let default = Timings::default();
    let (call, rows) = (default.call.min(heartbeat / 2), default.rows.max(reap * 3));
    let timings = Timings { heartbeat, lease, reap, call, rows, grace: raw.ms("presence.grace_ms"), record };
    for problem in timings.problems() {
        let key = match problem {
            BadTimings::Zero | BadTimings::CallTooLong => "registry.heartbeat_interval_ms",
            BadTimings::LeaseTooShort => "registry.lease_ms",
            BadTimings::ReapTooEarly | BadTimings::RowsTooShort => "registry.reap_ms",
        };
        let (heartbeat, lease, call) = (heartbeat.as_millis(), lease.as_millis(), timings.call.as_millis());
        let values = format!("here heartbeat {heartbeat}, lease {lease}, call {call}");
        raw.wrong(key, format!("consistent times ({values}): {problem}"));
    }
    timings
}
