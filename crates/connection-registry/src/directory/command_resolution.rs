//! The sessions that a command of the store applies to.

use wire::{SessionId, Timestamp};

use super::Directory;
use super::entry::DirectoryEntry;
use crate::instance_command::{InstanceCommand, NoticeTarget};
use crate::registration::RegistrationNumber;
use crate::session_close::SessionClose;
use crate::session_command::SessionCommand;

impl Directory {
    /// Translates a command of the store into commands to sessions of this instance. A command to close a connection
    /// whose client has reconnected since gives none.
    #[must_use]
    pub fn session_commands(&self, command: InstanceCommand) -> Vec<SessionCommand> {
        match command {
            InstanceCommand::Session(closing, since) => match self.registered(closing.session) {
                Some((number, at)) if since.is_none() || since == at => vec![SessionCommand::Close(closing, number)],
                _ => Vec::new(),
            },
            InstanceCommand::User(tenant, user, why) => {
                let close = |session| {
                    let (number, _) = self.registered(session)?;
                    Some(SessionCommand::Close(SessionClose { session, why }, number))
                };
                self.sessions_of(&tenant, &user).into_iter().filter_map(close).collect()
            }
            InstanceCommand::Notice(NoticeTarget::Session(session), notice) => {
                vec![SessionCommand::Notice(vec![session], notice)]
            }
            InstanceCommand::Notice(NoticeTarget::User(tenant, user), notice) => {
                vec![SessionCommand::Notice(self.sessions_of(&tenant, &user), notice)]
            }
        }
    }

    /// Number of the connection that owns a session's row, and its time of arrival if the store has it.
    pub(crate) fn registered(&self, session: SessionId) -> Option<(RegistrationNumber, Option<Timestamp>)> {
        let store_time = |entry: &DirectoryEntry| entry.has_store_time.then_some(entry.row.connected_at);
        self.rows.get(&session).map(|entry| (entry.number, store_time(&entry)))
    }
}
