//! Connections above the limits, counted on this instance alone.

use std::collections::{HashMap, HashSet};

use wire::SessionId;

use super::Directory;
use crate::connection_limits::{ConnectionLimits, OnExcess};
use crate::connection_row::ConnectionRow;
use crate::registration::RegistrationNumber;
use crate::session_close::{CloseReason, SessionClose};

/// A listed connection. Sorted by number, rows are in the order of arrival.
type Listed = (RegistrationNumber, SessionId, ConnectionRow);

/// A connection above a limit.
type Closing = (SessionClose, RegistrationNumber);

impl Directory {
    /// Connections to close if no other instance had any: of a user the newest or the oldest ones, of a tenant the
    /// newest ones. Looks at every row.
    pub(crate) fn excess(&self, limits: ConnectionLimits) -> Vec<Closing> {
        if limits.per_user_max == 0 && limits.per_tenant_max == 0 {
            return Vec::new();
        }
        let mut rows: Vec<Listed> =
            self.rows.iter().map(|entry| (entry.number, *entry.key(), entry.row.clone())).collect();
        rows.sort_unstable_by_key(|(number, ..)| *number);
        let mut closing = above_user_limit(&rows, limits);
        let closed: HashSet<_> = closing.iter().map(|(_, number)| *number).collect();
        // A connection that is closed for its user leaves room for others of the tenant.
        rows.retain(|(number, ..)| !closed.contains(number));
        closing.extend(above_tenant_limit(&rows, limits));
        closing
    }
}

fn above_user_limit(rows: &[Listed], limits: ConnectionLimits) -> Vec<Closing> {
    let mut closing = Vec::new();
    let mut users: HashMap<_, Vec<(RegistrationNumber, SessionId)>> = HashMap::new();
    for &(number, session, ref row) in rows {
        let counted = users.entry((&row.tenant, &row.user)).or_default();
        if limits.per_user_max > 0 && counted.len() >= limits.per_user_max as usize {
            match limits.on_excess {
                OnExcess::Reject => {
                    closing.push((SessionClose { session, why: CloseReason::TooMany }, number));
                    continue;
                }
                OnExcess::CloseOldest => {
                    let (number, session) = counted.remove(0);
                    closing.push((SessionClose { session, why: CloseReason::Replaced }, number));
                }
            }
        }
        counted.push((number, session));
    }
    closing
}

fn above_tenant_limit(rows: &[Listed], limits: ConnectionLimits) -> Vec<Closing> {
    let mut closing = Vec::new();
    let mut tenants: HashMap<_, u32> = HashMap::new();
    for &(number, session, ref row) in rows {
        let count = tenants.entry(&row.tenant).or_default();
        *count += 1;
        if limits.per_tenant_max > 0 && *count > limits.per_tenant_max {
            closing.push((SessionClose { session, why: CloseReason::TooMany }, number));
        }
    }
    closing
}
