//! Session records in Redis.

use keyspace::{Function, Keyspace};

use super::{RedisStore, malformed, millis};
use crate::error::StoreError;
use crate::instance::Instance;
use crate::lease::Token;
use crate::restores::{LookupResult, RecordLookup};
use crate::session_record::{ClosedSessionRecord, SessionRecord};
use crate::store::ROW_CHANGES_MAX;

impl RedisStore {
    pub(super) async fn leave(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> Result<(), StoreError> {
        assert!(left.len() <= ROW_CHANGES_MAX, "a batch of records is bounded");
        let mut args = vec![token.as_str().to_owned(), millis(self.timings.record)];
        for ClosedSessionRecord { session, tenant, user, since, record, .. } in left {
            // A record that is too long is not stored.
            let Some(record) = record.encode() else { continue };
            args.extend([session.to_string(), Keyspace::owner(tenant, user), since.0.to_string(), record]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.peers()];
        self.change(Function::REGISTRY_LEAVE, &keys, &args).await.map(drop)
    }

    pub(super) async fn take(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> Result<Vec<LookupResult>, StoreError> {
        assert!(lookups.len() <= ROW_CHANGES_MAX, "a batch of lookups is bounded");
        let mut args = vec![token.as_str().to_owned(), millis(self.timings.record)];
        for RecordLookup { ask, latest, number, .. } in lookups {
            let (owner, taker) =
                (Keyspace::owner(&ask.tenant, &ask.user), format!("{}/{number}", instance.incarnation));
            args.extend([ask.session.to_string(), owner, ask.since.0.to_string(), latest.0.to_string(), taker]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.peers()];
        let function = Function::REGISTRY_TAKE;
        let answer = self.change(function, &keys, &args).await?;
        let results = answer[1..].iter().map(|text| read_lookup(text)).collect::<Option<Vec<_>>>();
        results.filter(|results| results.len() == lookups.len()).ok_or_else(|| malformed(function, &answer))
    }
}

fn read_lookup(text: &str) -> Option<LookupResult> {
    Some(match text {
        "none" => LookupResult::Nothing,
        "awaited" => LookupResult::Awaited,
        "replaced" => LookupResult::Replaced,
        // A malformed record was not written by a gateway. It counts as none.
        _ => SessionRecord::decode(text.strip_prefix("record ")?).map_or(LookupResult::Nothing, LookupResult::Record),
    })
}
