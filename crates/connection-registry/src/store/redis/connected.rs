//! The connections of a user over the whole fleet, for operators.

use keyspace::{Function, Keyspace};
use wire::{InstanceId, Notice, SessionId, TenantId, Timestamp, UserId};

use super::RedisStore;
use crate::error::StoreError;

/// One connection of a user, as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Instance that holds the connection.
    pub instance: InstanceId,
    /// Session of the connection.
    pub session: SessionId,
    /// Time of arrival by Redis' clock.
    pub since: Timestamp,
}

impl RedisStore {
    /// A user's connections, as instances have written them so far.
    ///
    /// # Errors
    /// If the call to Redis fails.
    pub async fn who(&self, tenant: &TenantId, user: &UserId) -> Result<Vec<Connected>, StoreError> {
        let owner = Keyspace::owner(tenant, user);
        self.connected(Function::REGISTRY_WHO, &[&owner]).await
    }

    /// Closes all connections of a user, or the one with this session. Each instance closes its own at its next
    /// wake-up. Returns which connections these are.
    ///
    /// # Errors
    /// If the call to Redis fails.
    pub async fn kick(
        &self,
        tenant: &TenantId,
        user: &UserId,
        session: Option<SessionId>,
    ) -> Result<Vec<Connected>, StoreError> {
        let (owner, session) = (Keyspace::owner(tenant, user), session.map(|id| id.to_string()).unwrap_or_default());
        self.connected(Function::REGISTRY_KICK, &[&owner, &session]).await
    }

    /// Sends a notice to all connections of a user, or to the one with this session. Returns which connections these
    /// are.
    ///
    /// # Errors
    /// If the call to Redis fails.
    pub async fn send(
        &self,
        tenant: &TenantId,
        user: &UserId,
        session: Option<SessionId>,
        notice: &Notice,
    ) -> Result<Vec<Connected>, StoreError> {
        let (owner, session) = (Keyspace::owner(tenant, user), session.map(|id| id.to_string()).unwrap_or_default());
        self.connected(Function::REGISTRY_SEND, &[&owner, &session, &notice.to_json()]).await
    }

    async fn connected(&self, function: Function, args: &[&str]) -> Result<Vec<Connected>, StoreError> {
        let answer = self.call(function, &[self.keyspace.peers()], args).await?;
        let read = |connection: &[String]| {
            let [instance, session, since] = connection else { return None };
            let (instance, session) = (InstanceId::parse(instance).ok()?, SessionId::parse(session)?);
            Some(Connected { instance, session, since: Timestamp(since.parse().ok()?) })
        };
        // Another program may have written a row.
        Ok(answer.chunks(3).filter_map(read).collect())
    }
}
