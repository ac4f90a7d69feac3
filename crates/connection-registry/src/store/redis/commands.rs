//! Commands for an instance, as Redis' functions return them: pairs of texts. Only notices are in order.

use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

use crate::instance_command::{InstanceCommand, NoticeTarget};
use crate::session_close::{CloseReason, SessionClose};

/// Reads `SESSION WHY@SINCE`, `SESSION WHY`, `TENANT/USER WHY`, and `notice NUMBER TARGET` with a notice. Ignores other
/// texts: any program with access to Redis, or a later version, may have written them, and they must not cost the
/// lease.
pub(super) fn read(pairs: &[String]) -> Option<Vec<InstanceCommand>> {
    let mut numbered = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks(2) {
        let [what, how] = pair else { return None };
        let command = match what.strip_prefix("notice ") {
            Some(to) => read_notice(to, how),
            None => read_closing(what, how).map(|command| (0, command)),
        };
        if command.is_none() {
            tracing::warn!(command = what, "malformed command ignored");
        }
        numbered.extend(command);
    }
    numbered.sort_by_key(|(number, _)| *number);
    Some(numbered.into_iter().map(|(_, command)| command).collect())
}

fn read_closing(who: &str, why: &str) -> Option<InstanceCommand> {
    if let Some((tenant, user)) = read_owner(who) {
        return Some(InstanceCommand::User(tenant, user, CloseReason::parse(why)?));
    }
    let (why, since) = why.split_once('@').map_or((why, None), |(why, since)| (why, Some(since)));
    let since = since.map(str::parse).transpose().ok()?.map(Timestamp);
    Some(InstanceCommand::Session(
        SessionClose { session: SessionId::parse(who)?, why: CloseReason::parse(why)? },
        since,
    ))
}

fn read_notice(to: &str, notice: &str) -> Option<(u64, InstanceCommand)> {
    let (number, whom) = to.split_once(' ')?;
    let addressee = match read_owner(whom) {
        Some((tenant, user)) => NoticeTarget::User(tenant, user),
        None => NoticeTarget::Session(SessionId::parse(whom)?),
    };
    Some((number.parse().ok()?, InstanceCommand::Notice(addressee, Notice::parse(notice).ok()?)))
}

fn read_owner(text: &str) -> Option<(TenantId, UserId)> {
    let (tenant, user) = text.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_command_is_ignored_and_the_others_are_read() {
        let session = SessionId::from_random(1);
        let text = session.to_string();
        let pairs = ["nobody", "kicked", &text, "later@5", &text, "kicked@x", &text, "limit@5", "notice x y", "{}"];
        let read = read(&pairs.map(ToOwned::to_owned)).unwrap();
        assert_eq!(
            read,
            [InstanceCommand::Session(SessionClose { session, why: CloseReason::TooMany }, Some(Timestamp(5)))]
        );
    }
}
