//! PURE. Members of scopes, for the store of one process: the same rules as in Redis, handed the time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use wire::{Scope, Timestamp, UserId};

use super::InstanceIncarnation;
use crate::member::{Member, MemberChange, MemberInfo, MemberList};
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceEvent, PresenceTransition};

/// Most batches that are kept. Readers wait for batches, so that none of them is far behind.
const PRESENCE_BATCHES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Members {
    scopes: HashMap<Scope, BTreeMap<UserId, MemberEntry>>,
    /// What is due, and when.
    leaving: Vec<(Instant, Leaving)>,
    batches: VecDeque<PresenceBatch>,
    cursor: PresenceCursor,
}

#[derive(Debug)]
struct MemberEntry {
    since: Timestamp,
    info: MemberInfo,
    incarnations: Vec<InstanceIncarnation>,
}

#[derive(Debug, PartialEq)]
enum Leaving {
    /// A member that no incarnation holds.
    Member(Scope, UserId),
    /// Members of an ended incarnation, or those that an incarnation has not written again since its rewrite started.
    Stale(InstanceIncarnation, HashSet<(Scope, UserId)>),
}

impl Members {
    /// Changes what an incarnation holds, and removes members that are due.
    pub(super) fn change(
        &mut self,
        incarnation: &InstanceIncarnation,
        changes: &[MemberChange],
        grace: Duration,
        now: (Instant, Timestamp),
    ) {
        let mut events = Vec::new();
        for change in changes {
            match change {
                MemberChange::Enter(scope, user, info) => {
                    self.enter(incarnation, scope, user, info, now.1, &mut events)
                }
                MemberChange::Exit(scope, user) => {
                    self.depart(incarnation, scope, user, now.0 + grace, now, &mut events)
                }
            }
        }
        self.sweep(now, &mut events);
        self.publish(events);
    }

    /// All members that an incarnation holds are due then, except those that it writes again before.
    pub(super) fn end(&mut self, incarnation: &InstanceIncarnation, due: Instant) {
        let entry = self.scopes.iter().flat_map(|(scope, members)| {
            let per_incarnation = members.iter().filter(|(_, entry)| entry.incarnations.contains(incarnation));
            per_incarnation.map(|(user, _)| (scope.clone(), user.clone()))
        });
        let stale: HashSet<_> = entry.collect();
        self.leaving.retain(|(_, leaving)| !matches!(leaving, Leaving::Stale(other, _) if other == incarnation));
        if !stale.is_empty() {
            self.leaving.push((due, Leaving::Stale(incarnation.clone(), stale)));
        }
    }

    /// Time until the next member is due.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.leaving.iter().map(|(due, _)| due.saturating_duration_since(now)).min()
    }

    /// At most `most` members of a scope, and the number of all of them.
    pub(super) fn list(&self, scope: &Scope, most: usize) -> MemberList {
        let Some(members) = self.scopes.get(scope) else { return MemberList::default() };
        let member = |(user, entry): (&UserId, &MemberEntry)| Member {
            user: user.clone(),
            since: entry.since,
            info: entry.info.clone(),
            instances: entry.incarnations.iter().map(|(id, _)| id.clone()).collect(),
        };
        MemberList { count: members.len(), members: members.iter().take(most).map(member).collect() }
    }

    /// Place of the newest batch.
    pub(super) fn cursor(&self) -> PresenceCursor {
        self.cursor
    }

    /// Batches after a place.
    pub(super) fn behind(&self, cursor: PresenceCursor) -> Vec<PresenceBatch> {
        self.batches.iter().filter(|batch| batch.cursor > cursor).cloned().collect()
    }

    fn enter(
        &mut self,
        incarnation: &InstanceIncarnation,
        scope: &Scope,
        user: &UserId,
        info: &MemberInfo,
        now: Timestamp,
        events: &mut Vec<PresenceEvent>,
    ) {
        let member = (scope.clone(), user.clone());
        self.leaving.retain_mut(|(_, leaving)| match leaving {
            Leaving::Member(scope, user) => (&*scope, &*user) != (&member.0, &member.1),
            Leaving::Stale(other, stale) => {
                if other == incarnation {
                    stale.remove(&member);
                }
                true
            }
        });
        let members = self.scopes.entry(scope.clone()).or_default();
        let Some(entry) = members.get_mut(user) else {
            members.insert(
                user.clone(),
                MemberEntry { since: now, info: info.clone(), incarnations: vec![incarnation.clone()] },
            );
            let count = members.len();
            let transition = PresenceTransition::Joined(info.clone());
            return events.push(PresenceEvent {
                scope: scope.as_str().into(),
                user: user.clone(),
                at: now,
                count,
                transition,
            });
        };
        if !entry.incarnations.contains(incarnation) {
            entry.incarnations.push(incarnation.clone());
        }
    }

    fn depart(
        &mut self,
        incarnation: &InstanceIncarnation,
        scope: &Scope,
        user: &UserId,
        due: Instant,
        now: (Instant, Timestamp),
        events: &mut Vec<PresenceEvent>,
    ) {
        let Some(entry) = self.scopes.get_mut(scope).and_then(|members| members.get_mut(user)) else { return };
        let was_held = !entry.incarnations.is_empty();
        entry.incarnations.retain(|other| other != incarnation);
        if !was_held || !entry.incarnations.is_empty() {
            return;
        }
        match due <= now.0 {
            true => self.leave(scope, user, now.1, events),
            false => self.leaving.push((due, Leaving::Member(scope.clone(), user.clone()))),
        }
    }

    fn leave(&mut self, scope: &Scope, user: &UserId, now: Timestamp, events: &mut Vec<PresenceEvent>) {
        let Some(members) = self.scopes.get_mut(scope) else { return };
        members.remove(user);
        let count = members.len();
        if count == 0 {
            self.scopes.remove(scope);
        }
        let transition = PresenceTransition::Left;
        events.push(PresenceEvent { scope: scope.as_str().into(), user: user.clone(), at: now, count, transition });
    }

    fn sweep(&mut self, now: (Instant, Timestamp), events: &mut Vec<PresenceEvent>) {
        let due: Vec<_> = self.leaving.extract_if(.., |(due, _)| *due <= now.0).collect();
        for (_, leaving) in due {
            match leaving {
                Leaving::Member(scope, user) => self.leave(&scope, &user, now.1, events),
                Leaving::Stale(incarnation, stale) => {
                    for (scope, user) in stale {
                        self.depart(&incarnation, &scope, &user, now.0, now, events);
                    }
                }
            }
        }
    }

    fn publish(&mut self, changes: Vec<PresenceEvent>) {
        if changes.is_empty() {
            return;
        }
        let before = self.cursor;
        self.cursor = before.next();
        self.batches.push_back(PresenceBatch { cursor: self.cursor, before, changes });
        if self.batches.len() > PRESENCE_BATCHES_MAX {
            self.batches.pop_front();
        }
    }
}
