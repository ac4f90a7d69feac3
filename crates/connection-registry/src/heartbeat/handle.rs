//! The handle of the heartbeat task, for the rest of the gateway.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::peers::Peers;
use crate::directory::Directory;
use crate::lease::LeaseState;
use crate::presence::Presence;
use crate::session_command::SessionCommand;

/// The rest of the gateway's side of the heartbeat task. Dropping it stops the task too, without waiting for its end.
#[derive(Debug)]
pub struct HeartbeatHandle {
    /// Whether this instance may act as the owner of its connections. Check [`LeaseState::is_held`] with the time of
    /// acting.
    pub lease: watch::Receiver<LeaseState>,
    /// This instance and its peers.
    pub peers: watch::Receiver<Peers>,
    /// When notified, the task shows the instance's load to the peers at once.
    pub wakeup: Arc<Notify>,
    /// The connections of this instance. The shards add and remove them.
    pub directory: Arc<Directory>,
    /// The members of scopes on this instance, for families that have presence. The shards add and remove them.
    pub presence: Arc<Presence>,
    /// Commands to sessions of this instance. A command to a session that has ended meanwhile is ignored.
    pub session_commands: mpsc::UnboundedReceiver<SessionCommand>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

impl HeartbeatHandle {
    /// Releases the lease, removes the instance's rows, and ends the heartbeat task. Call it when the last connection
    /// is closed. Takes at most as long as the calls to the store may take.
    pub async fn stop(self) {
        let Self { stop, task, .. } = self;
        // The receiver is gone only if the task has panicked, which the next line reports.
        let _ = stop.send(());
        if let Err(error) = task.await {
            tracing::error!(%error, "heartbeat task panicked: its lease expires by itself");
        }
    }
}
