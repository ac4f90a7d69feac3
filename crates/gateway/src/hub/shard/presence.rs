//! PURE. Members of scopes, and the clients that watch who comes and goes. Nothing of it is on the way of a message, and
//! for families without presence nothing is kept.
//!
//! A watcher is given a list and then the changes behind the list's mark. When some may be missing, the lists are asked
//! for anew, and until the new one has come no change is passed on: it has them.

use connection_registry::{Mark, Member, MemberInfo, MemberList, MemberNews, Turn};
use smallvec::SmallVec;
use wire::{PresenceMember, UserId};

use super::*;
use crate::session::PresenceRequest;

/// What the shard wants told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attending {
    /// A connection has come to a scope.
    Entered(Scope, UserId, MemberInfo),
    /// It has left, or ended.
    Exited(Scope, UserId),
    /// Somebody here is to be given the list of a scope, and what changes.
    Watched(Scope),
    /// Nobody here is any more.
    Unwatched(Scope),
}

/// A list for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) scope: Scope,
    /// What stands behind it follows. Absent if the store could not be asked: then the list is what this instance knows.
    pub(crate) mark: Option<Mark>,
    pub(crate) list: MemberList,
}

/// Connections in scopes whose families have presence.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    scopes: HashMap<Scope, HashMap<Slot, Attendee>>,
    told: Vec<Attending>,
}

#[derive(Debug, Default)]
struct Attendee {
    /// A subscription has stood.
    is_member: bool,
    watch: Option<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Where the list stood that it has been given. Absent while it waits for one.
    at: Option<Mark>,
    /// The ids of its questions that wait for an answer: bounded by its rate, as none waits longer than a call.
    asked: SmallVec<[Option<Box<str>>; 1]>,
}

impl Shard {
    /// A subscription in the scope stands.
    pub(super) fn attend(&mut self, slot: Slot, scope: &Scope) {
        if !self.rules.policies.policy(scope.family()).presence {
            return; // The common case.
        }
        let connection = &self.connections[slot as usize];
        let Some(identity) = connection.session.identity() else { return };
        if connection.life != Life::Open {
            return;
        }
        let attendee = self.attendance.attendee(scope, slot);
        if !std::mem::replace(&mut attendee.is_member, true) {
            let (user, info) = (identity.user.clone(), identity.info.clone());
            self.attendance.told.push(Attending::Entered(scope.clone(), user, info));
        }
    }

    /// A subscription in the scope has ended, perhaps the last.
    pub(super) fn unattend(&mut self, slot: Slot, scope: &Scope) {
        if !self.rules.policies.policy(scope.family()).presence {
            return;
        }
        let session = &self.connections[slot as usize].session;
        if session.holds(scope) {
            return;
        }
        let Some(attendees) = self.attendance.scopes.get_mut(scope) else { return };
        let Some(attendee) = attendees.remove(&slot) else { return };
        let is_watched = attendees.values().any(|other| other.watch.is_some());
        if attendees.is_empty() {
            self.attendance.scopes.remove(scope);
        }
        if attendee.watch.is_some() && !is_watched {
            self.attendance.told.push(Attending::Unwatched(scope.clone()));
        }
        if attendee.is_member
            && let Some(identity) = session.identity()
        {
            self.attendance.told.push(Attending::Exited(scope.clone(), identity.user.clone()));
        }
    }

    /// A client asks who is there.
    pub(super) fn watch(&mut self, slot: Slot, request: PresenceRequest) {
        let PresenceRequest { scope, correlation_id } = request;
        let attendee = self.attendance.attendee(&scope, slot);
        attendee.watch.get_or_insert_default().asked.push(correlation_id);
        self.attendance.told.push(Attending::Watched(scope));
    }

    /// What the shard wants told since the last call.
    pub(crate) fn take_attending(&mut self) -> Vec<Attending> {
        std::mem::take(&mut self.attendance.told)
    }

    /// A list has come for those who wait for it.
    pub(crate) fn listed(&mut self, listed: &Listed) {
        let Listed { scope, mark, list } = listed;
        let Some(attendees) = self.attendance.scopes.get_mut(scope) else { return };
        let stale = mark.is_none();
        let mut frames = Vec::new();
        let mut anew = None; // One frame for all who have not asked.
        for (slot, attendee) in attendees {
            let Some(watch) = &mut attendee.watch else { continue };
            if watch.at.is_none() && watch.asked.is_empty() && !stale {
                let frame = anew.get_or_insert_with(|| presence_frame(scope, list, stale, None));
                frames.push((*slot, frame.clone()));
            }
            for id in watch.asked.drain(..) {
                frames.push((*slot, presence_frame(scope, list, stale, id.as_deref())));
            }
            if !stale {
                watch.at = *mark;
            }
        }
        self.queue_all(scope, frames);
    }

    /// Somebody has joined or left a scope. Watchers whose list says so already pass over it.
    pub(crate) fn turned(&mut self, scope: &Scope, mark: Mark, frame: &Encoded) {
        let Some(attendees) = self.attendance.scopes.get(scope) else { return };
        let is_news =
            |attendee: &Attendee| attendee.watch.as_ref().and_then(|watch| watch.at).is_some_and(|at| at < mark);
        let watching = attendees.iter().filter(|(_, attendee)| is_news(attendee));
        let frames = watching.map(|(slot, _)| (*slot, frame.clone())).collect();
        self.queue_all(scope, frames);
    }

    /// Changes may be missing: everybody's list is asked for again.
    pub(crate) fn watch_anew(&mut self) {
        for (scope, attendees) in &mut self.attendance.scopes {
            let mut is_watched = false;
            for watch in attendees.values_mut().filter_map(|attendee| attendee.watch.as_mut()) {
                (watch.at, is_watched) = (None, true);
            }
            if is_watched {
                self.attendance.told.push(Attending::Watched(scope.clone()));
            }
        }
    }

    fn queue_all(&mut self, scope: &Scope, frames: Vec<(Slot, Encoded)>) {
        let lane = self.rules.lane(scope);
        for (slot, frame) in frames {
            self.queue(slot, lane, frame);
        }
    }
}

impl Attendance {
    fn attendee(&mut self, scope: &Scope, slot: Slot) -> &mut Attendee {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.clone(), HashMap::new());
        }
        self.scopes.get_mut(scope).expect("put there if it was not").entry(slot).or_default()
    }
}

fn presence_frame(scope: &Scope, list: &MemberList, stale: bool, correlation_id: Option<&str>) -> Encoded {
    let members = list.members.iter().map(|Member { user, since, info, .. }| member_of(user, *since, info)).collect();
    ServerFrame::Presence { channel: scope.name(), count: list.count, members, stale, correlation_id }.encode()
}

/// The one frame of a change, for all who watch.
pub(crate) fn turn_frame(scope: &Scope, news: &MemberNews) -> Encoded {
    let (channel, count) = (scope.name(), news.count);
    match &news.turn {
        Turn::Joined(info) => {
            let member = member_of(&news.user, news.at, info);
            ServerFrame::Joined { channel, member, count }.encode()
        }
        Turn::Left => ServerFrame::Left { channel, user: news.user.as_str(), count }.encode(),
    }
}

fn member_of<'m>(user: &'m UserId, since: wire::Timestamp, info: &'m MemberInfo) -> PresenceMember<'m> {
    PresenceMember { user: user.as_str(), since, info: info.as_ref().map(|info| info.as_str().into()) }
}
