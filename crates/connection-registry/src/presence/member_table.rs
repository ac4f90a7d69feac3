//! The table of the members on one instance, with notes of what the store does not have yet.

use std::collections::{HashMap, HashSet};

use wire::{Scope, Timestamp, UserId};

use crate::member::{Member, MemberChange, MemberInfo, MemberList};

/// Most departures that are remembered one by one while the store cannot be reached.
pub(super) const GONE_MEMBERS_MAX: usize = 65_536;

/// Capacity of the notes that is kept when all changes are written.
const CHANGED_CAPACITY: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct MemberTable {
    scopes: HashMap<Scope, HashMap<UserId, LocalMember>>,
    /// Number of members in all scopes.
    members: usize,
    /// Changes that the store does not have yet: members that are here, and members that are not here any more.
    changed: HashSet<(Scope, UserId)>,
    /// Number of members in `changed` that are not here.
    gone: usize,
    /// Whether the store may list any member of this instance.
    is_used: bool,
    /// The store's list is unknown: all members are to be written again.
    rewrite: bool,
}

/// A member with at least one connection on this instance.
#[derive(Debug)]
struct LocalMember {
    connections: u32,
    since: Timestamp,
    info: MemberInfo,
    /// Whether the store may list the member, so that its departure must be written.
    announced: bool,
}

impl MemberTable {
    /// Counts a connection of a member. Returns whether there is a change to write.
    pub(super) fn enter(&mut self, scope: &Scope, user: &UserId, info: &MemberInfo, now: Timestamp) -> bool {
        if let Some(here) = self.scopes.get_mut(scope).and_then(|members| members.get_mut(user)) {
            here.connections += 1;
            return false;
        }
        // A member whose departure is not written yet may still be listed.
        let announced = !self.changed.insert((scope.clone(), user.clone()));
        let here = LocalMember { connections: 1, since: now, info: info.clone(), announced };
        self.scopes.entry(scope.clone()).or_default().insert(user.clone(), here);
        self.gone -= usize::from(announced);
        self.members += 1;
        self.is_used = true;
        true
    }

    /// Counts the end of a member's connection. Returns whether there is a change to write.
    pub(super) fn exit(&mut self, scope: &Scope, user: &UserId) -> bool {
        let Some(members) = self.scopes.get_mut(scope) else { return false };
        let Some(here) = members.get_mut(user) else { return false };
        here.connections -= 1;
        if here.connections > 0 {
            return false;
        }
        let announced = here.announced;
        members.remove(user);
        if members.is_empty() {
            self.scopes.remove(scope);
        }
        self.members -= 1;
        let member = (scope.clone(), user.clone());
        if !announced || self.rewrite {
            self.changed.remove(&member);
            return false;
        }
        self.changed.insert(member);
        self.gone += 1;
        if self.gone > GONE_MEMBERS_MAX {
            self.note_all();
        }
        true
    }

    /// Number of members in all scopes.
    pub(super) fn len(&self) -> usize {
        self.members
    }

    /// At most `most` members of a scope, and the number of all of them.
    pub(super) fn list(&self, scope: &Scope, most: usize) -> MemberList {
        let Some(members) = self.scopes.get(scope) else { return MemberList::default() };
        let member = |(user, here): (&UserId, &LocalMember)| Member {
            user: user.clone(),
            since: here.since,
            info: here.info.clone(),
            instances: Vec::new(),
        };
        MemberList { count: members.len(), members: members.iter().take(most).map(member).collect() }
    }

    /// Marks all members to be written again, unless the store has never listed one.
    pub(super) fn rewrite(&mut self) {
        if self.is_used {
            self.note_all();
        }
    }

    /// Returns true once for each rewrite.
    pub(super) fn take_rewrite(&mut self) -> bool {
        std::mem::take(&mut self.rewrite)
    }

    /// Takes up to `max` changes for the store.
    pub(super) fn take(&mut self, max: usize) -> Vec<MemberChange> {
        let members: Vec<_> = self.changed.iter().take(max).cloned().collect();
        let mut batch = Vec::with_capacity(members.len());
        for member in members {
            self.changed.remove(&member);
            let (scope, user) = member;
            match self.scopes.get_mut(&scope).and_then(|members| members.get_mut(&user)) {
                Some(here) => {
                    here.announced = true;
                    let info = here.info.clone();
                    batch.push(MemberChange::Enter(scope, user, info));
                }
                None => {
                    self.gone -= 1;
                    batch.push(MemberChange::Exit(scope, user));
                }
            }
        }
        if self.changed.is_empty() {
            self.changed.shrink_to(CHANGED_CAPACITY);
        }
        batch
    }

    /// Notes changes again when it is unknown whether the store has them.
    pub(super) fn put_back(&mut self, batch: Vec<MemberChange>) {
        for MemberChange::Enter(scope, user, _) | MemberChange::Exit(scope, user) in batch {
            let here = self.scopes.get_mut(&scope).and_then(|members| members.get_mut(&user));
            let is_here = here.is_some();
            if let Some(here) = here {
                here.announced = true; // Also after a departure: the store may not have carried it out.
            }
            if self.changed.insert((scope, user)) && !is_here {
                self.gone += 1;
            }
        }
    }

    /// Notes all members as changed and all departures as done.
    fn note_all(&mut self) {
        let all = self.scopes.iter().flat_map(|(scope, members)| {
            let scope = Scope::clone(scope);
            members.keys().map(move |user| (scope.clone(), user.clone()))
        });
        self.changed = all.collect();
        self.gone = 0;
        self.scopes.values_mut().flat_map(HashMap::values_mut).for_each(|here| here.announced = false);
        self.rewrite = true;
    }
    /// Panics unless `gone` is the number of changes whose member is not here.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let is_here = |(scope, user): &(Scope, UserId)| self.scopes.get(scope).is_some_and(|m| m.contains_key(user));
        assert_eq!(self.gone, self.changed.iter().filter(|member| !is_here(member)).count());
    }
}
