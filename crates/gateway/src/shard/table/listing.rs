//! PURE. The list of a shard's connections for operators.

use serde_json::{Value, json};

use super::*;
use crate::shard::requests::Listing;

impl Shard {
    /// Answers with the connections whose user is known.
    pub(crate) fn list(&self, listing: Listing) {
        let Listing { tenant, users, most, answer } = listing;
        let known = self.connections.iter().filter_map(|(_, connection)| {
            let identity = connection.session.identity()?;
            let is_wanted = tenant.as_ref().is_none_or(|tenant| *tenant == identity.tenant)
                && (users.is_empty() || users.contains(&identity.user));
            is_wanted.then(|| self.shown(connection, identity))
        });
        drop(answer.send(known.take(most).collect()));
    }

    fn shown(&self, connection: &Connection, identity: &Identity) -> Value {
        json!({
            "tenant": identity.tenant.as_str(),
            "user": identity.user.as_str(),
            "session_id": connection.session.id().to_string(),
            "shard": self.index.0,
            "subscriptions": connection.session.subscriptions.len(),
            "waiting_bytes": connection.outbox.bytes(),
            "rtt_ms": connection.rtt_ms,
        })
    }
}
