//! Who is in which scope here: the instance's own truth, and what of it the store has yet to learn.
//!
//! ```text
//!   shards ── enter, exit ──▶ Presence ── take(batch) ──▶ heartbeat ══▶ members in Redis
//! ```
//!
//! A user with several connections of a scope is one member: the store hears of the first and of the last. Changes are
//! noted by member, so one that comes and goes between two batches costs nothing. The notes are bounded by the members
//! there are, and [`GONE_MEMBERS_MAX`] that the store may still list; beyond that everything is written anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::{Scope, Timestamp, UserId};

use crate::member::{Member, MemberChange, MemberInfo, MemberList};

/// So many departures are remembered one by one while the store cannot be told.
const GONE_MEMBERS_MAX: usize = 65_536;

/// The members that one instance holds.
#[derive(Debug, Default)]
pub struct Presence {
    table: Mutex<MemberTable>,
    /// Woken when somebody has come or gone.
    changes: Notify,
}

#[derive(Debug, Default)]
struct MemberTable {
    scopes: HashMap<Scope, HashMap<UserId, LocalMember>>,
    /// How many members there are in all scopes.
    members: usize,
    /// What the store has yet to learn: members who are here, or are not any more.
    changed: HashSet<(Scope, UserId)>,
    /// How many of those are not here.
    gone: usize,
    /// Whether the store may know of anybody.
    is_used: bool,
    /// What the store knows is void.
    rewrite: bool,
}

#[derive(Debug)]
struct LocalMember {
    connections: u32,
    since: Timestamp,
    info: MemberInfo,
    /// Whether the store may list it, so that its end must be told.
    announced: bool,
}

impl Presence {
    /// A connection of this user has come to a scope.
    pub fn enter(&self, scope: &Scope, user: &UserId, info: &MemberInfo, now: Timestamp) {
        let mut table = self.table();
        if let Some(here) = table.scopes.get_mut(scope).and_then(|members| members.get_mut(user)) {
            here.connections += 1;
            return;
        }
        let MemberTable { scopes, changed, .. } = &mut *table;
        // One whose departure has not been told yet may be listed still.
        let announced = !changed.insert((scope.clone(), user.clone()));
        let here = LocalMember { connections: 1, since: now, info: info.clone(), announced };
        scopes.entry(scope.clone()).or_default().insert(user.clone(), here);
        table.gone -= usize::from(announced);
        table.members += 1;
        table.is_used = true;
        drop(table);
        self.changes.notify_one();
    }

    /// A connection of this user that had come has left the scope, or has ended.
    pub fn exit(&self, scope: &Scope, user: &UserId) {
        let mut table = self.table();
        let Some(members) = table.scopes.get_mut(scope) else { return };
        let Some(here) = members.get_mut(user) else { return };
        here.connections -= 1;
        if here.connections > 0 {
            return;
        }
        let announced = here.announced;
        members.remove(user);
        if members.is_empty() {
            table.scopes.remove(scope);
        }
        table.members -= 1;
        let member = (scope.clone(), user.clone());
        if !announced || table.rewrite {
            table.changed.remove(&member);
            return;
        }
        table.changed.insert(member);
        table.gone += 1;
        if table.gone > GONE_MEMBERS_MAX {
            table.note_all();
        }
        drop(table);
        self.changes.notify_one();
    }

    /// How many members this instance holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().members
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a scope as far as this instance knows: those connected here.
    #[must_use]
    pub fn here(&self, scope: &Scope, most: usize) -> MemberList {
        let table = self.table();
        let Some(members) = table.scopes.get(scope) else { return MemberList::default() };
        let member = |(user, here): (&UserId, &LocalMember)| Member {
            user: user.clone(),
            since: here.since,
            info: here.info.clone(),
            instances: Vec::new(),
        };
        MemberList { count: members.len(), members: members.iter().take(most).map(member).collect() }
    }

    /// Waits until somebody has come or gone since the last call.
    pub(crate) async fn wait_for_changes(&self) {
        self.changes.notified().await;
    }

    /// What the store knows is void: everything is to be written again.
    pub(crate) fn rewrite(&self) {
        let mut table = self.table();
        if table.is_used {
            table.note_all();
        }
    }

    /// Whether the store must be told so before the next batch. Says so once.
    pub(crate) fn take_rewrite(&self) -> bool {
        std::mem::take(&mut self.table().rewrite)
    }

    /// Up to `max` changes for the store. Empty when it knows everything.
    pub(crate) fn take(&self, max: usize) -> Vec<MemberChange> {
        let mut table = self.table();
        let members: Vec<_> = table.changed.iter().take(max).cloned().collect();
        let mut batch = Vec::with_capacity(members.len());
        for (scope, user) in members {
            let member = (scope, user);
            table.changed.remove(&member);
            let (scope, user) = member;
            match table.scopes.get_mut(&scope).and_then(|members| members.get_mut(&user)) {
                Some(here) => {
                    here.announced = true;
                    let info = here.info.clone();
                    batch.push(MemberChange::Enter(scope, user, info));
                }
                None => {
                    table.gone -= 1;
                    batch.push(MemberChange::Exit(scope, user));
                }
            }
        }
        if table.changed.is_empty() {
            table.changed.shrink_to(1_024); // After a storm.
        }
        batch
    }

    /// Notes the changes again whose fate in the store is unknown.
    pub(crate) fn put_back(&self, batch: Vec<MemberChange>) {
        let mut table = self.table();
        for MemberChange::Enter(scope, user, _) | MemberChange::Exit(scope, user) in batch {
            let here = table.scopes.get_mut(&scope).and_then(|members| members.get_mut(&user));
            let is_here = here.is_some();
            if let Some(here) = here {
                here.announced = true; // Also by a departure that may not have come to pass.
            }
            if table.changed.insert((scope, user)) && !is_here {
                table.gone += 1;
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, MemberTable> {
        // A panic elsewhere under the lock leaves a note too many or too few; the next rewrite heals that.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemberTable {
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
}

#[cfg(test)]
mod tests;
