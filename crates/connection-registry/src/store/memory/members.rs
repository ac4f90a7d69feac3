//! PURE. Who is in which scope, for the store of one process: the same rules as in Redis, handed the time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use wire::{Scope, Timestamp, UserId};

use super::Life;
use crate::member::{Mark, Member, MemberChange, MemberInfo, MemberList, MemberNews, Turn, Turnover};

/// Readers wait for what is told and are behind by little.
const TURNOVERS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Members {
    scopes: HashMap<Scope, BTreeMap<UserId, Held>>,
    /// What is due when, and of whom.
    leaving: Vec<(Instant, Leaving)>,
    turnovers: VecDeque<Turnover>,
    mark: Mark,
}

#[derive(Debug)]
struct Held {
    since: Timestamp,
    info: MemberInfo,
    lives: Vec<Life>,
}

#[derive(Debug, PartialEq)]
enum Leaving {
    /// A member that nobody holds.
    Member(Scope, UserId),
    /// What an ended life held, or one that writes all anew has not written again yet.
    Ghosts(Life, HashSet<(Scope, UserId)>),
}

impl Members {
    pub(super) fn change(&mut self, life: &Life, changes: &[MemberChange], grace: Duration, now: (Instant, Timestamp)) {
        let mut news = Vec::new();
        for change in changes {
            match change {
                MemberChange::Enter(scope, user, info) => self.enter(life, scope, user, info, now.1, &mut news),
                MemberChange::Exit(scope, user) => self.depart(life, scope, user, now.0 + grace, now, &mut news),
            }
        }
        self.sweep(now, &mut news);
        self.tell(news);
    }

    /// All that a life holds is due, but for what it writes again until then.
    pub(super) fn end(&mut self, life: &Life, due: Instant) {
        let held = self.scopes.iter().flat_map(|(scope, members)| {
            let of_life = members.iter().filter(|(_, held)| held.lives.contains(life));
            of_life.map(|(user, _)| (scope.clone(), user.clone()))
        });
        let ghosts: HashSet<_> = held.collect();
        self.leaving.retain(|(_, leaving)| !matches!(leaving, Leaving::Ghosts(other, _) if other == life));
        if !ghosts.is_empty() {
            self.leaving.push((due, Leaving::Ghosts(life.clone(), ghosts)));
        }
    }

    /// How long until somebody is due.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.leaving.iter().map(|(due, _)| due.saturating_duration_since(now)).min()
    }

    pub(super) fn list(&self, scope: &Scope, most: usize) -> MemberList {
        let Some(members) = self.scopes.get(scope) else { return MemberList::default() };
        let member = |(user, held): (&UserId, &Held)| Member {
            user: user.clone(),
            since: held.since,
            info: held.info.clone(),
            instances: held.lives.iter().map(|(id, _)| id.clone()).collect(),
        };
        MemberList { count: members.len(), members: members.iter().take(most).map(member).collect() }
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn behind(&self, mark: Mark) -> Vec<Turnover> {
        self.turnovers.iter().filter(|turnover| turnover.mark > mark).cloned().collect()
    }

    fn enter(
        &mut self,
        life: &Life,
        scope: &Scope,
        user: &UserId,
        info: &MemberInfo,
        now: Timestamp,
        news: &mut Vec<MemberNews>,
    ) {
        let member = (scope.clone(), user.clone());
        self.leaving.retain_mut(|(_, leaving)| match leaving {
            Leaving::Member(scope, user) => (&*scope, &*user) != (&member.0, &member.1),
            Leaving::Ghosts(other, ghosts) => {
                if other == life {
                    ghosts.remove(&member);
                }
                true
            }
        });
        let members = self.scopes.entry(scope.clone()).or_default();
        let Some(held) = members.get_mut(user) else {
            members.insert(user.clone(), Held { since: now, info: info.clone(), lives: vec![life.clone()] });
            let count = members.len();
            let turn = Turn::Joined(info.clone());
            return news.push(MemberNews { scope: scope.as_str().into(), user: user.clone(), at: now, count, turn });
        };
        if !held.lives.contains(life) {
            held.lives.push(life.clone());
        }
    }

    fn depart(
        &mut self,
        life: &Life,
        scope: &Scope,
        user: &UserId,
        due: Instant,
        now: (Instant, Timestamp),
        news: &mut Vec<MemberNews>,
    ) {
        let Some(held) = self.scopes.get_mut(scope).and_then(|members| members.get_mut(user)) else { return };
        let was_held = !held.lives.is_empty();
        held.lives.retain(|other| other != life);
        if !was_held || !held.lives.is_empty() {
            return;
        }
        match due <= now.0 {
            true => self.leave(scope, user, now.1, news),
            false => self.leaving.push((due, Leaving::Member(scope.clone(), user.clone()))),
        }
    }

    fn leave(&mut self, scope: &Scope, user: &UserId, now: Timestamp, news: &mut Vec<MemberNews>) {
        let Some(members) = self.scopes.get_mut(scope) else { return };
        members.remove(user);
        let count = members.len();
        if count == 0 {
            self.scopes.remove(scope);
        }
        let turn = Turn::Left;
        news.push(MemberNews { scope: scope.as_str().into(), user: user.clone(), at: now, count, turn });
    }

    fn sweep(&mut self, now: (Instant, Timestamp), news: &mut Vec<MemberNews>) {
        let due: Vec<_> = self.leaving.extract_if(.., |(due, _)| *due <= now.0).collect();
        for (_, leaving) in due {
            match leaving {
                Leaving::Member(scope, user) => self.leave(&scope, &user, now.1, news),
                Leaving::Ghosts(life, ghosts) => {
                    for (scope, user) in ghosts {
                        self.depart(&life, &scope, &user, now.0, now, news);
                    }
                }
            }
        }
    }

    fn tell(&mut self, changes: Vec<MemberNews>) {
        if changes.is_empty() {
            return;
        }
        let before = self.mark;
        self.mark = before.next();
        self.turnovers.push_back(Turnover { mark: self.mark, before, changes });
        if self.turnovers.len() > TURNOVERS_MAX {
            self.turnovers.pop_front();
        }
    }
}
