//! Wake-ups of the store and of this process, which fetch commands before the next heartbeat.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wire::InstanceId;

use crate::store::Store;

/// Waits for the store's wake-ups. Dropping it ends the waiting.
#[derive(Debug)]
pub(super) struct WakeupListener {
    wakeup: Arc<Notify>,
    _listening: JoinSet<()>,
}

impl WakeupListener {
    /// Listens on the current runtime. `pause` is the time between two attempts while the store is away.
    pub(super) fn start<S: Store>(store: Arc<S>, id: InstanceId, pause: Duration) -> Self {
        let (wakeup, mut listening) = (Arc::new(Notify::new()), JoinSet::new());
        listening.spawn(listen(store, id, Arc::clone(&wakeup), pause));
        Self { wakeup, _listening: listening }
    }

    /// For other threads of this process, which notify it when peers must learn the instance's load at once.
    pub(super) fn wakeup(&self) -> Arc<Notify> {
        Arc::clone(&self.wakeup)
    }

    /// Waits until there has been a wake-up since the last call.
    pub(super) async fn notified(&self) {
        self.wakeup.notified().await;
    }
}

/// Notifies `wakeup` at each wake-up of the store. The next heartbeat fetches the commands of a wake-up that was
/// missed.
async fn listen<S: Store>(store: Arc<S>, id: InstanceId, wakeup: Arc<Notify>, pause: Duration) {
    loop {
        match store.wait_for_wakeup(&id).await {
            Ok(true) => wakeup.notify_one(),
            Ok(false) => {}
            Err(_) => sleep(pause).await, // The heartbeats log the store's failure.
        }
    }
}
