//! PURE. The rows of all instances, for the store of one process: listed connections, and the limits that they count
//! for.

use std::collections::HashMap;

use wire::{SessionId, TenantId, Timestamp, UserId};

use super::InstanceIncarnation;
use crate::connection_limits::{ConnectionLimits, OnExcess};
use crate::connection_row::ConnectionRow;
use crate::instance_command::InstanceCommand;
use crate::session_close::{CloseReason, SessionClose};

/// Commands for other incarnations.
pub(super) type Commands = Vec<(InstanceIncarnation, InstanceCommand)>;

/// A listed connection of a user: its session, and where it is.
type Place = (SessionId, InstanceIncarnation);

#[derive(Debug, Default)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    rows: HashMap<InstanceIncarnation, HashMap<SessionId, ConnectionRow>>,
    /// Connections of each user, in the order in which they were listed.
    places: HashMap<(TenantId, UserId), Vec<Place>>,
    /// Number of connections of each tenant.
    tenants: HashMap<TenantId, usize>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Number of rows of an incarnation.
    pub(super) fn count(&self, incarnation: &InstanceIncarnation) -> usize {
        self.rows.get(incarnation).map_or(0, HashMap::len)
    }

    /// Sessions that an incarnation lists.
    pub(super) fn sessions(&self, incarnation: &InstanceIncarnation) -> Vec<SessionId> {
        self.rows.get(incarnation).map(|rows| rows.keys().copied().collect()).unwrap_or_default()
    }

    /// Time of arrival of a session's connection.
    fn connected_at(&self, incarnation: &InstanceIncarnation, session: SessionId) -> Option<Timestamp> {
        Some(self.rows.get(incarnation)?.get(&session)?.connected_at)
    }

    /// Where else a user has a session listed, with the time of arrival there.
    pub(super) fn listed_elsewhere(
        &self,
        incarnation: &InstanceIncarnation,
        owner: &(TenantId, UserId),
        session: SessionId,
    ) -> Vec<(InstanceIncarnation, Option<Timestamp>)> {
        let places = self.places.get(owner).into_iter().flatten();
        let others = places.filter(|(other, at)| *other == session && at != incarnation);
        others.map(|(_, at)| (at.clone(), self.connected_at(at, session))).collect()
    }

    /// Lists a connection, unless a limit or a newer connection of its session forbids that. Connections that have to
    /// go for it are removed, and their incarnations get commands. Returns why the connection itself has to go, if it
    /// does.
    pub(super) fn put(
        &mut self,
        incarnation: &InstanceIncarnation,
        session: SessionId,
        (row, latest): (&ConnectionRow, Timestamp),
        commands: &mut Commands,
    ) -> Option<CloseReason> {
        let owner = (row.tenant.clone(), row.user.clone());
        for (other, connected_at) in self.listed_elsewhere(incarnation, &owner, session) {
            if connected_at.is_some_and(|connected_at| connected_at > latest) {
                self.remove(incarnation, session);
                return Some(CloseReason::Replaced);
            }
            self.replace(&other, session, commands);
        }
        self.remove(incarnation, session);
        let ConnectionLimits { per_user_max, per_tenant_max, on_excess } = self.limits;
        let others = self.places.get(&owner).cloned().unwrap_or_default();
        let excess = if per_user_max == 0 { 0 } else { (others.len() + 1).saturating_sub(per_user_max as usize) };
        if on_excess == OnExcess::CloseOldest && self.close_oldest(others, excess, row.connected_at, commands) {
            return Some(CloseReason::Replaced);
        }
        let crowded = per_tenant_max > 0 && self.tenants.get(&owner.0).is_some_and(|n| *n >= per_tenant_max as usize);
        if crowded || (excess > 0 && on_excess == OnExcess::Reject) {
            return Some(CloseReason::TooMany);
        }
        *self.tenants.entry(owner.0.clone()).or_default() += 1;
        self.places.entry(owner).or_default().push((session, incarnation.clone()));
        self.rows.entry(incarnation.clone()).or_default().insert(session, row.clone());
        None
    }

    /// Closes the oldest connections of a user, the new one counted. Returns whether the new one is among them, which
    /// happens when rows are written again.
    fn close_oldest(
        &mut self,
        others: Vec<Place>,
        excess: usize,
        connected_at: Timestamp,
        commands: &mut Commands,
    ) -> bool {
        let since = |(session, at): &Place| self.connected_at(at, *session).unwrap_or(Timestamp(0));
        let mut oldest: Vec<_> = others.into_iter().map(|other| (since(&other), Some(other))).collect();
        oldest.push((connected_at, None));
        oldest.sort_by_key(|(since, _)| *since);
        let mut closes_new = false;
        for (_, other) in oldest.into_iter().take(excess) {
            match other {
                Some((session, at)) => self.replace(&at, session, commands),
                None => closes_new = true,
            }
        }
        closes_new
    }

    /// Removes a row, and has its connection closed.
    fn replace(&mut self, at: &InstanceIncarnation, session: SessionId, commands: &mut Commands) {
        let Some(row) = self.remove(at, session) else { return };
        let close = SessionClose { session, why: CloseReason::Replaced };
        commands.push((at.clone(), InstanceCommand::Session(close, Some(row.connected_at))));
    }

    pub(super) fn remove(&mut self, incarnation: &InstanceIncarnation, session: SessionId) -> Option<ConnectionRow> {
        let row = self.rows.get_mut(incarnation)?.remove(&session)?;
        let count = self.tenants.get_mut(&row.tenant).expect("each row is counted for its tenant");
        *count -= 1;
        if *count == 0 {
            self.tenants.remove(&row.tenant);
        }
        let owner = (row.tenant.clone(), row.user.clone());
        let places = self.places.get_mut(&owner).expect("each row has a place of its user");
        places.retain(|(other, at)| *other != session || at != incarnation);
        if places.is_empty() {
            self.places.remove(&owner);
        }
        Some(row)
    }

    /// Removes all rows of an incarnation. Returns how many there were.
    pub(super) fn remove_all(&mut self, incarnation: &InstanceIncarnation) -> usize {
        let sessions = self.sessions(incarnation);
        sessions.iter().for_each(|session| drop(self.remove(incarnation, *session)));
        self.rows.remove(incarnation);
        sessions.len()
    }
}
