//! Polls a condition until it is true.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::Failure;

/// The longest wait of [`until`].
const UNTIL_TIME_MAX: Duration = Duration::from_secs(20);
/// The pause between two polls of [`until`], which often queries a server.
const UNTIL_POLL: Duration = Duration::from_millis(10);
/// The pause between two polls of [`wait`].
const WAIT_POLL: Duration = Duration::from_millis(20);

/// Polls until the condition is true. Fails with `what` if that takes too long.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + UNTIL_TIME_MAX;
    while !is_so().await {
        if Instant::now() > deadline {
            return Err(Failure::Late(what.to_owned()));
        }
        sleep(UNTIL_POLL).await;
    }
    Ok(())
}

/// Polls until the condition is true. Returns false if that takes too long.
pub(crate) async fn wait(at_most: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + at_most;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(WAIT_POLL).await;
    }
    true
}
