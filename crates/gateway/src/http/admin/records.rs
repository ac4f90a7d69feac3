//! `/dead-letters` and `/receipts`: what `tidegate dlq list` and `tidegate receipts` show, for programs, and for whoever
//! runs a gateway without Redis, which those commands cannot ask. Messages are not shown: this port asks nobody who he is.

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

/// Dead letters and receipts in one answer, at most.
pub(super) const ROWS_MAX: usize = 1_000;
/// Redis' function takes no more in one call.
const USERS_MAX: usize = 499;

/// Answers from the records.
#[derive(Debug)]
pub(crate) struct Records {
    store: EitherStore,
    families: Families,
}

/// What was asked.
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

    /// Each tenant's newest dead letters, newest first.
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

    /// How far users have got in a channel's scope; those whose receipts are oldest first.
    pub(super) async fn receipts(&self, query: &str) -> Response<Full<Bytes>> {
        let Query { tenant, channel, users } = match read(query) {
            Ok(query) => query,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let pattern = channel.and_then(|channel| self.families.parse(&tenant.unwrap_or_default(), &channel).ok());
        let Some(pattern) = pattern else {
            return answer::refusal(&Refusal::bad_request(
                "of which channel? /receipts?tenant=acme&channel=collection:42",
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

/// The sentence about a message may quote it.
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

/// Reads `tenant=…&channel=…&user=…&user=…`.
pub(super) fn read(query: &str) -> Result<Query, Refusal> {
    let mut wanted = Query::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = percent_decode(&value.replace('+', " ")).ok_or(Refusal::bad_request("a broken %-escape"))?;
        match name {
            "tenant" => {
                let tenant = TenantId::parse(&value).map_err(|_| Refusal::bad_request("tenant is not a name"))?;
                wanted.tenant = Some(tenant);
            }
            "channel" => wanted.channel = Some(value),
            "user" => {
                wanted.users.push(UserId::parse(&value).map_err(|_| Refusal::bad_request("user is not a name"))?);
            }
            _ => {
                return Err(Refusal::bad_request(
                    "this takes tenant, /connections user too, and /receipts channel and user",
                ));
            }
        }
    }
    if wanted.users.len() > USERS_MAX {
        return Err(Refusal::bad_request("that many users are asked for in several questions"));
    }
    Ok(wanted)
}
