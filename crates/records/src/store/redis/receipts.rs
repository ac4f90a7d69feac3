//! Receipts in Redis. Functions write and read them, because only Redis can decide which receipt is the highest.

use keyspace::Function;
use redis::{Cmd, Pipeline};
use redis_topology::call;
use wire::{Position, Scope, Timestamp, UserId};

use super::RedisStore;
use crate::error::StoreError;
use crate::receipts::ScopeReceipts;

/// The answer of `tidegate_receipts`.
pub(super) type ReceiptsReply = (String, Vec<String>, Vec<Vec<u8>>);

impl RedisStore {
    pub(super) fn write_call(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Pipeline {
        let mut calls = redis::pipe();
        for (scope, users) in batch {
            let mut write =
                call(Function::RECEIPT, &[self.keyspace.receipts(scope), self.keyspace.receipts_times(scope)]);
            for (user, position) in users {
                write.arg(user.as_str()).arg(position.to_string());
            }
            calls.add_command(write);
        }
        calls
    }

    pub(super) fn scope_receipts_call(&self, scope: &Scope, users: &[UserId], most: usize) -> Cmd {
        let keys = [self.keyspace.receipts(scope), self.keyspace.receipts_times(scope), self.keyspace.meta(scope)];
        let mut ask = call(Function::RECEIPTS, &keys);
        ask.arg(most).arg(users.iter().map(UserId::as_str).collect::<Vec<_>>());
        ask
    }
}

pub(super) fn read((top, earlier, found): ReceiptsReply) -> Result<ScopeReceipts, StoreError> {
    let malformed = || StoreError::Malformed(format!("{} answered {top:?}, {earlier:?}", Function::RECEIPTS.name));
    let position = |text: &String| text.parse::<Position>().map_err(|_| malformed());
    // Another program may have written a receipt.
    let user = |row: &[Vec<u8>]| {
        let [user, at, time_ms] = row else { return None };
        let [user, at, time_ms] = [user, at, time_ms].map(|bytes| std::str::from_utf8(bytes).ok());
        Some((UserId::parse(user?).ok()?, at?.parse().ok()?, Timestamp(time_ms?.parse().ok()?)))
    };
    Ok(ScopeReceipts {
        top: if top.is_empty() { None } else { Some(position(&top)?) },
        earlier: earlier.iter().map(position).collect::<Result<_, _>>()?,
        users: found.chunks(3).filter_map(user).collect(),
    })
}
