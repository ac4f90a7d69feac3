//! Dead letters in Redis: a function stores them, plain commands read and remove them, and the function of all
//! publishers replays them.

use std::collections::HashMap;

use keyspace::Function;
use redis_topology::call;
use wire::{Channel, Position, TenantId};

use super::{RedisStore, fields};
use crate::dead_letters::{Body, StoredDeadLetter};
use crate::error::StoreError;

/// The reason why a dead letter was not published again. It stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The dead letter was stored without its message.
    #[error("the message was not kept")]
    NoMessage,
    /// The message may or may not have been published. It is safe to replay it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One stream entry: its id and its fields.
pub(super) type StreamFields = (String, HashMap<String, Vec<u8>>);

impl RedisStore {
    /// Publishes the message of a dead letter to `channel`, like any publisher. The publish id is derived from the dead
    /// letter, so that a second replay within the time of known ids is not stored. Returns the position of the message.
    ///
    /// # Errors
    /// Fails if the message was not kept, or if Redis does not accept the publish.
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
