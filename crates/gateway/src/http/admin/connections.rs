//! `/connections`: who is connected to this instance, and how far away. The shards are asked when somebody wants to know;
//! nothing of it goes to Redis.

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
use crate::shard::requests::ToShard;
use crate::shard::table::Listing;

/// A shard that takes longer is stuck, or near it.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the shards.
#[derive(Debug)]
pub(crate) struct Connections {
    hub: Hub,
}

impl Connections {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// The first connections of each shard, of whoever was asked for.
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
        // All at once; each has the whole time.
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

/// What each shard tells; nothing of one that has ended.
async fn collect(asked: Vec<oneshot::Receiver<Vec<Value>>>) -> Vec<Value> {
    let mut found = Vec::new();
    for reply in asked {
        found.extend(reply.await.unwrap_or_default());
    }
    found
}
