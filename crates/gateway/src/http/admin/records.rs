//! `/dead-letters` and `/receipts`: what `tidegate dlq list` and `tidegate receipts` show, for programs, and for a
//! gateway without Redis, whose records these commands cannot read. Messages are not shown, because this port does
//! not authenticate its clients.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use records::{EitherStore, Store, StoreError, StoredDeadLetter};
use serde_json::{Value, json};
use wire::{Families, TenantId, UserId};

use crate::http::answer;
use crate::http::percent::percent_decode;
use crate::http::record_json;
use crate::http::refusal::Refusal;

/// Largest number of dead letters or receipts in one reply.
pub(super) const ROWS_MAX: usize = 1_000;
/// Largest number of users in one request: the limit of the function in Redis.
const USERS_MAX: usize = 499;

/// Answers requests for records.
#[derive(Debug)]
pub(crate) struct Records {
    store: EitherStore,
    families: Families,
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) tenant: Option<TenantId>,
    channel: Option<String>,
    pub(super) users: Vec<UserId>,
}

impl Records {
    pub(crate) fn new(store: EitherStore, families: Families) -> Self {
        Self { store, families }
    }

    /// Lists the newest dead letters of a tenant, newest first.
    pub(super) async fn dead_letters(&self, query: &str) -> Response<Full<Bytes>> {
        let Query { tenant, .. } = match read(query) {
            Ok(query) => query,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let dead_letters = self.store.dead_letters(&tenant.unwrap_or_default(), None, ROWS_MAX).await;
        reply(
            dead_letters.map(
                |dead_letters| json!({ "dead_letters": dead_letters.iter().map(without_quotes).collect::<Vec<_>>() }),
            ),
        )
    }

    /// Lists the receipts of a channel's scope, those that are oldest first.
    pub(super) async fn receipts(&self, query: &str) -> Response<Full<Bytes>> {
        let Query { tenant, channel, users } = match read(query) {
            Ok(query) => query,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let pattern = channel.and_then(|channel| self.families.parse(&tenant.unwrap_or_default(), &channel).ok());
        let Some(pattern) = pattern else {
            return answer::refusal(&Refusal::bad_request(
                "a valid channel is required: /receipts?tenant=acme&channel=collection:42",
            ));
        };
        let scope_receipts = self.store.scope_receipts(&pattern.scope, &users, ROWS_MAX).await;
        reply(scope_receipts.map(|scope_receipts| {
            let row =
                |(user, position, time): &(_, _, _)| record_json::receipt(&scope_receipts, user, *position, *time);
            json!({ "receipts": scope_receipts.users.iter().map(row).collect::<Vec<_>>() })
        }))
    }
}

/// Leaves out the detail, because it may quote the message.
fn without_quotes(dead_letter: &StoredDeadLetter) -> Value {
    let mut object = record_json::dead_letter(dead_letter);
    object.as_object_mut().map(|fields| fields.remove("detail"));
    object
}

fn reply(value: Result<Value, StoreError>) -> Response<Full<Bytes>> {
    match value {
        Ok(value) => answer::json(StatusCode::OK, &value),
        Err(error) => {
            let message = error.to_string();
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "code": "unavailable", "message": message }))
        }
    }
}

/// Parses a query such as `tenant=…&channel=…&user=…&user=…`.
pub(super) fn read(query: &str) -> Result<Query, Refusal> {
    let mut wanted = Query::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = percent_decode(&value.replace('+', " ")).ok_or(Refusal::bad_request("an invalid %-escape"))?;
        match name {
            "tenant" => {
                let tenant = TenantId::parse(&value).map_err(|_| Refusal::bad_request("tenant is not a valid name"))?;
                wanted.tenant = Some(tenant);
            }
            "channel" => wanted.channel = Some(value),
            "user" => {
                wanted.users.push(UserId::parse(&value).map_err(|_| Refusal::bad_request("user is not a valid name"))?);
            }
            _ => {
                return Err(Refusal::bad_request(
                    "the parameters are tenant, for /connections also user, and for /receipts also channel and user",
                ));
            }
        }
    }
    if wanted.users.len() > USERS_MAX {
        return Err(Refusal::bad_request("too many users in one request; send several requests"));
    }
    Ok(wanted)
}
