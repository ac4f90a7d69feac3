//! What the heartbeat task shows to the rest of the gateway.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::directory::Directory;
use crate::instance::Instance;
use crate::lease::LeaseState;
use crate::presence::Presence;
use crate::roster::Peer;
use crate::session_command::SessionCommand;

/// This instance and the others, as of the last look at the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Ourselves.
    pub own: Instance,
    /// The others, by id.
    pub others: Vec<Peer>,
    /// When the store was looked at; never yet, without.
    pub seen: Option<Instant>,
    /// So many are silent at once that Redis or a clock is suspected rather than they.
    pub doubted: bool,
}

/// What the rest of the gateway holds of the heartbeat task. Dropping it stops the heartbeat task too, without waiting.
#[derive(Debug)]
pub struct HeartbeatHandle {
    /// Whether this instance may act as owner. Check [`LeaseState::is_held`] with the time of acting.
    pub lease: watch::Receiver<LeaseState>,
    /// The fleet.
    pub peers: watch::Receiver<Peers>,
    /// When notified, the instance shows its peers at once how it is doing.
    pub wakeup: Arc<Notify>,
    /// Told of every connection and its end.
    pub directory: Arc<Directory>,
    /// Told of every connection that comes to a scope or leaves it, where the scope's family has presence.
    pub presence: Arc<Presence>,
    /// What is to be done to sessions here. One that has gone meanwhile is none of anybody's business.
    pub session_commands: mpsc::UnboundedReceiver<SessionCommand>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

impl HeartbeatHandle {
    /// Gives the lease back, removes the instance's rows, and ends the heartbeat task. To be called when the last connection
    /// is closed. Takes as long as the calls to the store may, at most.
    pub async fn stop(self) {
        let Self { stop, task, .. } = self;
        // It is gone already only if it panicked, which the next line tells.
        let _ = stop.send(());
        if let Err(error) = task.await {
            tracing::error!(%error, "heartbeat task panicked: its lease expires by itself");
        }
    }
}
