//! The path of commands from the heartbeat task to the rest of the gateway.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::connection_limits::ConnectionLimits;
use crate::directory::Directory;
use crate::instance_command::InstanceCommand;
use crate::restores::{RestoreRequest, RestoreResult};
use crate::session_command::SessionCommand;

/// Finds the sessions of commands, and sends them on. When the gateway stops, there is no receiver any more: then all
/// connections are closed anyway.
#[derive(Debug, Clone)]
pub(super) struct CommandSender {
    directory: Arc<Directory>,
    /// Bounded by the sessions of this instance, and by the commands of one renewal.
    sender: mpsc::UnboundedSender<SessionCommand>,
}

impl CommandSender {
    pub(super) fn new(directory: Arc<Directory>, sender: mpsc::UnboundedSender<SessionCommand>) -> Self {
        Self { directory, sender }
    }

    /// Sends the commands of a store's reply.
    pub(super) fn send(&self, commands: Vec<InstanceCommand>) {
        for command in commands.into_iter().flat_map(|command| self.directory.session_commands(command)) {
            let _ = self.sender.send(command);
        }
    }

    /// Answers a connection that asked for its session's record.
    pub(super) fn send_restored(&self, ask: RestoreRequest, restored: RestoreResult) {
        let _ = self.sender.send(SessionCommand::Restored(ask, restored));
    }

    /// Closes connections above the limits, counted on this instance alone. Once the store is back, it checks all rows.
    pub(super) fn close_excess(&self, limits: ConnectionLimits) {
        for (closing, number) in self.directory.excess(limits) {
            let _ = self.sender.send(SessionCommand::Close(closing, number));
        }
    }
}
