//! Dead letters in Redis: kept by a function, read and removed by plain commands, replayed by the function that
//! everybody publishes with.

use std::collections::HashMap;

use keyspace::Function;
use redis_topology::call;
use wire::{Channel, Position, TenantId};

use super::{RedisStore, fields};
use crate::dead_letter::{Body, StoredDeadLetter};
use crate::error::StoreError;

/// Why a dead letter was not published again. It stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Its message was not kept.
    #[error("its message was not kept")]
    NoMessage,
    /// It may or may not have been; replaying it again does no harm.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An entry of a stream.
pub(super) type StreamFields = (String, HashMap<String, Vec<u8>>);

impl RedisStore {
    /// Publishes a dead letter's message to `channel`, as anybody would, with an id of the dead letter's own: what is replayed
    /// twice within the time that ids are known is stored once. Its position.
    ///
    /// # Errors
    /// When there is nothing to publish, or Redis does not take it.
    pub async fn replay(&self, dead_letter: &StoredDeadLetter, channel: &Channel) -> Result<Position, ReplayError> {
        let Body::Message(message) = &dead_letter.body else { return Err(ReplayError::NoMessage) };
        let Channel { scope, .. } = channel;
        let [even, odd] = self.keyspace.ids(scope);
        let keys = [self.keyspace.stream(scope), self.keyspace.meta(scope), even, odd];
        let mut publish = call(Function::PUBLISH_ONCE, &keys);
        publish.arg(channel.topic()).arg(&message[..]).arg(format!("dead-letter/{}", dead_letter.id));
        let (position, _): (String, u8) = self.run(&keys[0], &publish).await?;
        position.parse().map_err(|_| StoreError::Malformed(position).into())
    }
}

pub(super) fn read(tenant: &TenantId, (id, fields): StreamFields) -> Result<StoredDeadLetter, StoreError> {
    let id = id.parse().map_err(|_| StoreError::Malformed(id))?;
    Ok(fields::read(tenant, id, fields))
}
