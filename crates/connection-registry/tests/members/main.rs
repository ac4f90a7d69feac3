//! Members of scopes: one suite for every store, and heartbeat tasks on a real Redis.

#[path = "../support/mod.rs"]
mod support;

mod conformance;
mod heartbeats;

use std::time::Duration;

/// A grace that is long enough for a busy machine, and short enough for a test to wait for its end.
const GRACE: Duration = Duration::from_millis(2_000);
