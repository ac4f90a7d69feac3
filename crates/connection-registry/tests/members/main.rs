//! Members of scopes: every store by one suite, and hearts on a real Redis.

#[path = "../support/mod.rs"]
mod support;

mod conformance;
mod heartbeats;

use std::time::Duration;

/// How long members may come back: long enough for a busy machine, short enough to wait for its end.
const GRACE: Duration = Duration::from_millis(2_000);
