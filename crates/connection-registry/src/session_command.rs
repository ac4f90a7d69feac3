//! A command to sessions of this instance, for the rest of the gateway.

use wire::{Notice, SessionId};

use crate::registration::RegistrationNumber;
use crate::restores::{RestoreRequest, RestoreResult};
use crate::session_close::SessionClose;

/// An [`InstanceCommand`](crate::InstanceCommand) for which the directory has found the sessions, or the answer to a
/// [`RestoreRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    /// Close the session's connection with this number, and its earlier connections.
    Close(SessionClose, RegistrationNumber),
    /// Send a notice to these sessions.
    Notice(Vec<SessionId>, Notice),
    /// Answer a connection that asked for its session's record.
    Restored(RestoreRequest, RestoreResult),
}
