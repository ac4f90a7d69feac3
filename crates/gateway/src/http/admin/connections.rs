//! `/connections`: the connections of this instance and their round-trip times. Each request asks the shards; nothing
//! of it is written to Redis.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::records::{Query, ROWS_MAX, read};
use crate::http::answer;
use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::requests::Listing;
use crate::shard::requests::ToShard;

/// Longest time to wait for the shards. A shard that takes longer is stuck, or nearly so.
const DEADLINE: Duration = Duration::from_secs(2);

/// Answers `/connections` by asking the shards.
#[derive(Debug)]
pub(crate) struct Connections {
    hub: Hub,
}

impl Connections {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// Lists connections of the tenant and the users in the query: at most [`ROWS_MAX`], in the order of the shards.
    pub(super) async fn list(&self, query: &str) -> Response<Full<Bytes>> {
        let Query { tenant, users, .. } = match read(query) {
            Ok(query) => query,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let ask = |shard: &ShardHandle| {
            let (answer, reply) = oneshot::channel();
            let (tenant, users) = (tenant.clone(), users.clone());
            let listing = Listing { tenant, users, most: ROWS_MAX + 1, answer };
            shard.inbox.push(ToShard::List(Box::new(listing)), 0);
            reply
        };
        // All shards are asked at once, and the deadline applies to all of them together.
        let asked: Vec<_> = self.hub.shards().map(ask).collect();
        match timeout(DEADLINE, collect(asked)).await {
            Ok(mut found) => {
                let more = found.len() > ROWS_MAX;
                found.truncate(ROWS_MAX);
                answer::json(StatusCode::OK, &json!({ "connections": found, "more": more }))
            }
            Err(_) => {
                let reply = json!({ "code": "unavailable", "message": "a shard does not answer" });
                answer::json(StatusCode::SERVICE_UNAVAILABLE, &reply)
            }
        }
    }
}

/// Collects the lists of the shards. A shard that has ended contributes nothing.
async fn collect(asked: Vec<oneshot::Receiver<Vec<Value>>>) -> Vec<Value> {
    let mut found = Vec::new();
    for reply in asked {
        found.extend(reply.await.unwrap_or_default());
    }
    found
}
