//! What Redis says an instance is to do: pairs of what and how, in no order but that of the notices.

use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

use crate::limits::{Addressee, Closing, Order, Why};

/// Reads `SESSION WHY@SINCE`, `SESSION WHY`, `TENANT/USER WHY` and `notice NUMBER WHOM` with a notice. Nothing if one is none of these.
pub(super) fn read(pairs: &[String]) -> Option<Vec<Order>> {
    let mut numbered = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks(2) {
        let [what, how] = pair else { return None };
        match what.strip_prefix("notice ") {
            Some(to) => numbered.extend(read_notice(to, how)),
            None => numbered.push((0, read_closing(what, how)?)),
        }
    }
    numbered.sort_by_key(|(number, _)| *number);
    Some(numbered.into_iter().map(|(_, order)| order).collect())
}

fn read_closing(who: &str, why: &str) -> Option<Order> {
    if let Some((tenant, user)) = read_owner(who) {
        return Some(Order::User(tenant, user, Why::parse(why)?));
    }
    let (why, since) = why.split_once('@').map_or((why, None), |(why, since)| (why, Some(since)));
    let since = since.map(str::parse).transpose().ok()?.map(Timestamp);
    Some(Order::Session(Closing { session: SessionId::parse(who)?, why: Why::parse(why)? }, since))
}

/// Anybody with access to Redis may have written one, and a lease must not hang on that.
fn read_notice(to: &str, notice: &str) -> Option<(u64, Order)> {
    let read = || {
        let (number, whom) = to.split_once(' ')?;
        let addressee = match read_owner(whom) {
            Some((tenant, user)) => Addressee::User(tenant, user),
            None => Addressee::Session(SessionId::parse(whom)?),
        };
        Some((number.parse().ok()?, Order::Notice(addressee, Notice::parse(notice).ok()?)))
    };
    let read = read();
    if read.is_none() {
        tracing::warn!(to, "a notice that is none is left out");
    }
    read
}

fn read_owner(text: &str) -> Option<(TenantId, UserId)> {
    let (tenant, user) = text.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?))
}
