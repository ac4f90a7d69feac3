//! How instances tell each other that they live, and who is with them: `[registry]` and `[presence]` as the registry's
//! timings.

use connection_registry::{BadTimings, Timings};

use super::raw::RawConfig;

/// The operator sets heartbeat, lease and reap; what they leave no choice about follows from them.
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
        raw.wrong(key, format!("times that fit each other ({values}): {problem}"));
    }
    timings
}
