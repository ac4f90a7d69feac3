//! A session that two clients go on with at once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::watch;

/// For something to be published between their leaving and their return.
const AWAY: Duration = Duration::from_millis(500);

/// What two clients share that each believe to be the one.
#[derive(Debug, Clone)]
pub(crate) struct Contention {
    pub(crate) user: String,
    pub(crate) session: String,
    /// From then on they have the session.
    pub(crate) is_on: watch::Receiver<bool>,
    /// How many were told that the other one goes on.
    pub(crate) replaced: Arc<AtomicUsize>,
}

impl Contention {
    /// They come back at the same moment.
    pub(crate) fn absence() -> Duration {
        AWAY
    }

    /// Waits until they have the session.
    pub(crate) async fn begun(mut self) {
        if self.is_on.wait_for(|is_on| *is_on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
