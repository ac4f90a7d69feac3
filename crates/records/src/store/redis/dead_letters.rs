//! Dead letters in Redis: a function stores them, plain commands read and remove them, and the function of all
//! publishers replays them.

use std::collections::HashMap;

use keyspace::{PublishCall, PublishItem};
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
pub(super) type StreamFields = (String, HashMap<Vec<u8>, Vec<u8>>);

impl RedisStore {
    /// Publishes the message of a dead letter to `channel`, like any publisher. The publish id is derived from the dead
    /// letter, so that a second replay within the time of known ids is not stored. Returns the position of the message.
    ///
    /// # Errors
    /// Fails if the message was not kept, or if Redis does not accept the publish.
    pub async fn replay(&self, dead_letter: &StoredDeadLetter, channel: &Channel) -> Result<Position, ReplayError> {
        let Body::Message(message) = &dead_letter.body else { return Err(ReplayError::NoMessage) };
        let publish = PublishCall::new(&self.keyspace, &channel.scope, true).checked();
        let id = format!("dead-letter/{}", dead_letter.id);
        let item = PublishItem { topic: channel.topic(), message, id: Some(&id) };
        let slot = self.keyspace.slot(&channel.scope);
        let placed = self.client.publish(slot, &publish, [item].into_iter()).await.map_err(StoreError::from)?;
        let (position, _) = placed[0];
        Ok(position)
    }
}

pub(super) fn read(tenant: &TenantId, (id, fields): StreamFields) -> Result<StoredDeadLetter, StoreError> {
    let id = id.parse().map_err(|_| StoreError::Malformed(id))?;
    Ok(fields::read(tenant, id, fields))
}
