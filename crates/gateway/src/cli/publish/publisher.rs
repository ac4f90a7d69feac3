//! The client of Redis that publishes messages of one channel.

use std::time::Duration;

use keyspace::{Keyspace, Placed, PublishCall, PublishItem, Slot};
use redis_topology::{CallError, CommandClient, ErrorReply, LibraryLoader, Loading, Pools, Target, Topology};
use tidegate_gateway::config::PublishConfig;
use tokio::time::{Instant, timeout};
use wire::Channel;

/// Longest time to reach Redis before the call itself: locating the server, name resolution, connecting.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// After this time since the last query, the Sentinels are asked for the primary again before a call.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why messages may not have been stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("Redis does not answer; the message is not stored: {0}")]
    Unreachable(String),
    #[error("Redis refused; the message is not stored: {0}")]
    Refused(String),
    #[error("no answer from Redis; the message may have been stored")]
    NoAnswer,
    #[error("unexpected reply of the function; the message may have been stored: {0}")]
    Malformed(String),
    #[error("the function failed half-way; the message may have been stored: {0}")]
    HalfWay(String),
}

/// A message as Redis stores it, and the id that the publisher gave it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Vec<u8>,
    pub(super) id: Option<String>,
}

/// Publishes messages. Keeps its connection between calls.
pub(super) struct Publisher<'c> {
    channel: &'c Channel,
    target: &'c Target,
    slot: Slot,
    client: CommandClient,
    /// Calls without ids, and calls with ids.
    calls: [PublishCall; 2],
    /// Time of the last query for the primary.
    asked: Instant,
}

// === impl Publisher ===

impl<'c> Publisher<'c> {
    pub(super) fn new(config: &'c PublishConfig, channel: &'c Channel) -> Self {
        let (redis, scope) = (&config.redis, &channel.scope);
        let keys = Keyspace::new(redis.prefix.clone());
        // An existing library is kept: gateways load it, and they know all families.
        let library = LibraryLoader::new(config.policies.library(), Loading::FillGap);
        let pools = Pools::new(redis.target.clone(), 1, redis.reply_deadline);
        Self {
            channel,
            target: &redis.target,
            slot: keys.slot(scope),
            client: CommandClient::new(pools, library, CONNECT_DEADLINE + redis.reply_deadline),
            calls: [false, true].map(|has_ids| PublishCall::new(&keys, scope, has_ids)),
            asked: Instant::now(),
        }
    }

    /// Stores and publishes all items, or none.
    pub(super) async fn store(&mut self, items: &[Item]) -> Result<Vec<Placed>, PublishError> {
        self.look_for_failover().await;
        let [without_ids, with_ids] = &self.calls;
        let call = if items.iter().any(|item| item.id.is_some()) { with_ids } else { without_ids };
        let topic = self.channel.topic();
        let words = items.iter().map(|Item { message, id }| PublishItem { topic, message, id: id.as_deref() });
        Ok(self.client.publish(self.slot, call, words).await?)
    }

    /// Asks the Sentinels whether there was a failover: an old primary may answer for a while after it. If no Sentinel
    /// answers, the known primary is called.
    async fn look_for_failover(&mut self) {
        if matches!(self.target.topology(), Topology::Sentinel(_)) && self.asked.elapsed() > ASK_AGAIN {
            let _ = timeout(CONNECT_DEADLINE, self.target.locate(self.slot)).await;
            self.asked = Instant::now();
        }
    }
}

impl From<CallError> for PublishError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(why) => Self::Unreachable(why),
            CallError::NoAnswer(_) => Self::NoAnswer,
            CallError::Malformed(what) => Self::Malformed(what),
            CallError::Rejected(text) if ErrorReply(&text).is_half_way() => Self::HalfWay(text),
            CallError::Rejected(text) => Self::Refused(text),
        }
    }
}
