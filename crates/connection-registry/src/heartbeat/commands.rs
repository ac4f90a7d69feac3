//! What the store wants done here: asked for by renewing the lease, and passed on to the rest of the gateway.

use super::HeartbeatTask;
use crate::error::StoreError;
use crate::instance_command::InstanceCommand;
use crate::lease::LeaseRequest;
use crate::load::Load;
use crate::store::Store;

impl<S: Store, L: Fn() -> Load + Send + 'static> HeartbeatTask<S, L> {
    /// Renewing brings the commands. Without a lease they wait for the next heartbeat.
    pub(super) async fn take_commands(&mut self) -> Result<(), StoreError> {
        let LeaseRequest::Renew(token) = self.lease.ask() else { return Ok(()) };
        self.number += 1;
        self.renew(&token).await
    }

    /// Passes on who has to go, and what is to be sent. Nobody listens when the gateway stops, and then everybody goes.
    pub(super) fn pass_on(&self, commands: Vec<InstanceCommand>) {
        for session_command in commands.into_iter().flat_map(|command| self.directory.session_commands(command)) {
            let _ = self.session_commands.send(session_command);
        }
    }
}
