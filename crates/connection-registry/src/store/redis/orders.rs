//! What Redis says an instance is to do: pairs of what and how, in no order but that of the notices.

use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

use crate::limits::{Addressee, Closing, Order, Why};

/// Reads `SESSION WHY@SINCE`, `SESSION WHY`, `TENANT/USER WHY` and `notice NUMBER WHOM` with a notice. One that is none of
/// these is left out: anybody with access to Redis may have written it, or a later version, and a lease must not hang on that.
pub(super) fn read(pairs: &[String]) -> Option<Vec<Order>> {
    let mut numbered = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks(2) {
        let [what, how] = pair else { return None };
        let order = match what.strip_prefix("notice ") {
            Some(to) => read_notice(to, how),
            None => read_closing(what, how).map(|order| (0, order)),
        };
        if order.is_none() {
            tracing::warn!(what, "an order that is none is left out");
        }
        numbered.extend(order);
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

fn read_notice(to: &str, notice: &str) -> Option<(u64, Order)> {
    let (number, whom) = to.split_once(' ')?;
    let addressee = match read_owner(whom) {
        Some((tenant, user)) => Addressee::User(tenant, user),
        None => Addressee::Session(SessionId::parse(whom)?),
    };
    Some((number.parse().ok()?, Order::Notice(addressee, Notice::parse(notice).ok()?)))
}

fn read_owner(text: &str) -> Option<(TenantId, UserId)> {
    let (tenant, user) = text.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_none_is_left_out_and_the_others_are_read() {
        let session = SessionId::from_random(1);
        let text = session.to_string();
        let pairs = ["nobody", "kicked", &text, "later@5", &text, "kicked@x", &text, "limit@5", "notice x y", "{}"];
        let read = read(&pairs.map(ToOwned::to_owned)).unwrap();
        assert_eq!(read, [Order::Session(Closing { session, why: Why::TooMany }, Some(Timestamp(5)))]);
    }
}
