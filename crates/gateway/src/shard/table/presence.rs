//! PURE. Members of scopes, and the clients that watch them. Delivering a message does not touch this table, and
//! nothing is kept for families without presence.
//!
//! A watcher receives a list, and then the changes after the list's cursor. If changes may be missing, the lists are
//! requested again. Until the new list arrives, no change is passed on, because the new list contains it.

use std::borrow::Cow;

use connection_registry::{Member, MemberInfo, MemberList, PresenceCursor, PresenceEvent, PresenceTransition};
use smallvec::SmallVec;
use wire::{PresenceMember, UserId};

use super::*;
use crate::protocol::shared_reply::SharedReply;
use crate::session::PresenceRequest;
use crate::shard::requests::PresenceList;

/// What the shard reports about presence, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresenceUpdate {
    /// A connection has its first subscription in a scope.
    Entered(Scope, UserId, MemberInfo),
    /// The connection's last subscription in the scope has ended.
    Exited(Scope, UserId),
    /// A client here needs the list of a scope and its changes.
    Watched(Scope),
    /// No client here watches the scope any more.
    Unwatched(Scope),
}

/// Connections in scopes whose families have presence.
#[derive(Debug, Default)]
pub(super) struct PresenceTable {
    scopes: HashMap<Scope, HashMap<Slot, PresenceEntry>>,
    updates: Vec<PresenceUpdate>,
}

#[derive(Debug, Default)]
struct PresenceEntry {
    /// Whether a subscription in the scope has been announced. The connection then counts as a member.
    is_member: bool,
    watch: Option<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// The cursor of the list that the client has received. Absent while it waits for a list.
    at: Option<PresenceCursor>,
    /// The correlation ids of its requests without an answer. The client's rate bounds them, because no request waits
    /// longer than one call.
    asked: SmallVec<[Option<Box<str>>; 1]>,
}

impl Shard {
    /// A subscription in the scope has been announced.
    pub(super) fn track(&mut self, slot: Slot, scope: &Scope) {
        if !self.rules.policies.policy(scope.family()).presence {
            return; // Most families have no presence.
        }
        let connection = &self.connections[slot];
        let Some(identity) = connection.session.identity() else { return };
        if connection.state != ConnectionState::Open {
            return;
        }
        let presence_entry = self.presence.presence_entry(scope, slot);
        if !std::mem::replace(&mut presence_entry.is_member, true) {
            let (user, info) = (identity.user.clone(), identity.info.clone());
            self.presence.updates.push(PresenceUpdate::Entered(scope.clone(), user, info));
        }
    }

    /// A subscription in the scope has ended. It may have been the last one.
    pub(super) fn untrack(&mut self, slot: Slot, scope: &Scope) {
        if !self.rules.policies.policy(scope.family()).presence {
            return;
        }
        let session = &self.connections[slot].session;
        if session.holds(scope) {
            return;
        }
        let Some(presence_entries) = self.presence.scopes.get_mut(scope) else { return };
        let Some(presence_entry) = presence_entries.remove(&slot) else { return };
        let is_watched = presence_entries.values().any(|other| other.watch.is_some());
        if presence_entries.is_empty() {
            self.presence.scopes.remove(scope);
        }
        if presence_entry.watch.is_some() && !is_watched {
            self.presence.updates.push(PresenceUpdate::Unwatched(scope.clone()));
        }
        if presence_entry.is_member
            && let Some(identity) = session.identity()
        {
            self.presence.updates.push(PresenceUpdate::Exited(scope.clone(), identity.user.clone()));
        }
    }

    /// A client asks for the members of a scope.
    pub(super) fn watch(&mut self, slot: Slot, request: PresenceRequest) {
        let PresenceRequest { scope, correlation_id } = request;
        let presence_entry = self.presence.presence_entry(&scope, slot);
        presence_entry.watch.get_or_insert_default().asked.push(correlation_id);
        self.presence.updates.push(PresenceUpdate::Watched(scope));
    }

    /// The presence updates since the last call.
    pub(crate) fn take_presence_updates(&mut self) -> Vec<PresenceUpdate> {
        std::mem::take(&mut self.presence.updates)
    }

    /// Sends a list to the clients that wait for it.
    pub(crate) fn presence_listed(&mut self, listed: &PresenceList) {
        let PresenceList { scope, cursor, list } = listed;
        let Some(presence_entries) = self.presence.scopes.get_mut(scope) else { return };
        let stale = cursor.is_none();
        let mut frames = Vec::new();
        // For all watchers that have not asked.
        let mut anew = SharedReply::new(presence_reply(scope, list, stale, None));
        for (slot, presence_entry) in presence_entries {
            let Some(watch) = &mut presence_entry.watch else { continue };
            if watch.at.is_none() && watch.asked.is_empty() && !stale {
                let format = self.connections[*slot].outbox.format();
                frames.push((*slot, anew.encode(format)));
            }
            for id in watch.asked.drain(..) {
                let format = self.connections[*slot].outbox.format();
                frames.push((*slot, format.reply(&presence_reply(scope, list, stale, id.as_deref()))));
            }
            if !stale {
                watch.at = *cursor;
            }
        }
        self.queue_all(scope, frames);
    }

    /// A user has joined or left a scope. Watchers whose list is newer than this change are skipped.
    pub(crate) fn presence_changed(&mut self, scope: &Scope, cursor: PresenceCursor, event: &PresenceEvent) {
        let Some(presence_entries) = self.presence.scopes.get(scope) else { return };
        let is_new = |presence_entry: &PresenceEntry| {
            presence_entry.watch.as_ref().and_then(|watch| watch.at).is_some_and(|at| at < cursor)
        };
        let watching = presence_entries.iter().filter(|(_, presence_entry)| is_new(presence_entry));
        let mut reply = SharedReply::new(presence_event_reply(scope, event));
        let frames = watching.map(|(slot, _)| (*slot, reply.encode(self.connections[*slot].outbox.format())));
        let frames = frames.collect();
        self.queue_all(scope, frames);
    }

    /// Changes may be missing. Requests the list of every watched scope again.
    pub(crate) fn resync_presence(&mut self) {
        for (scope, presence_entries) in &mut self.presence.scopes {
            let mut is_watched = false;
            for watch in presence_entries.values_mut().filter_map(|presence_entry| presence_entry.watch.as_mut()) {
                (watch.at, is_watched) = (None, true);
            }
            if is_watched {
                self.presence.updates.push(PresenceUpdate::Watched(scope.clone()));
            }
        }
    }

    fn queue_all(&mut self, scope: &Scope, frames: Vec<(Slot, Outbound)>) {
        let lane = self.rules.lane(scope);
        for (slot, frame) in frames {
            self.queue_outbound(slot, lane, frame);
        }
    }
}

impl PresenceTable {
    fn presence_entry(&mut self, scope: &Scope, slot: Slot) -> &mut PresenceEntry {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.clone(), HashMap::new());
        }
        self.scopes.get_mut(scope).expect("put there if it was not").entry(slot).or_default()
    }
}

fn presence_reply<'m>(
    scope: &'m Scope,
    list: &'m MemberList,
    stale: bool,
    correlation_id: Option<&'m str>,
) -> ServerFrame<'m> {
    let members = list.members.iter().map(|Member { user, since, info, .. }| member_of(user, *since, info)).collect();
    let (channel, correlation_id) = (scope.name().into(), correlation_id.map(Cow::Borrowed));
    ServerFrame::Presence { channel, count: list.count, members, stale, correlation_id }
}

/// The reply that every watcher receives for a change.
fn presence_event_reply<'m>(scope: &'m Scope, event: &'m PresenceEvent) -> ServerFrame<'m> {
    let (channel, count) = (scope.name().into(), event.count);
    match &event.transition {
        PresenceTransition::Joined(info) => {
            let member = member_of(&event.user, event.at, info);
            ServerFrame::Joined { channel, member, count }
        }
        PresenceTransition::Left => ServerFrame::Left { channel, user: event.user.as_str().into(), count },
    }
}

fn member_of<'m>(user: &'m UserId, since: wire::Timestamp, info: &'m MemberInfo) -> PresenceMember<'m> {
    PresenceMember { user: user.as_str().into(), since, info: info.as_ref().map(|info| info.as_str().into()) }
}
