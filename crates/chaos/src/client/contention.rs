//! One session that two clients continue at the same time.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::watch;

/// Time for messages to be published after the clients have left and before they return.
const AWAY: Duration = Duration::from_millis(500);

/// The state that two clients of one session share. Each believes that the session is its own.
#[derive(Debug, Clone)]
pub(crate) struct Contention {
    pub(crate) user: String,
    pub(crate) session: String,
    /// When this is true, both clients continue the session.
    pub(crate) is_on: watch::Receiver<bool>,
    /// Number of connections that were closed because the other client continues the session.
    pub(crate) replaced: Arc<AtomicUsize>,
}

impl Contention {
    /// The absence is constant, so that both clients return at the same moment.
    pub(crate) fn absence() -> Duration {
        AWAY
    }

    /// Waits until both clients may continue the session.
    pub(crate) async fn begun(mut self) {
        if self.is_on.wait_for(|is_on| *is_on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
