//! Directory rows as arguments of Redis' functions.

use keyspace::Function;

use super::{RedisStore, malformed, millis, replies};
use crate::connection_limits::ConnectionLimits;
use crate::connection_row::RowChange;
use crate::error::StoreError;
use crate::instance::Instance;
use crate::lease::Token;
use crate::store::record::RowRecord;
use crate::store::{DirectoryReply, ROW_CHANGES_MAX};

impl RedisStore {
    pub(super) async fn write_changes(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> Result<DirectoryReply, StoreError> {
        assert!(changes.len() <= ROW_CHANGES_MAX, "a batch of rows is bounded");
        let [lease, peers, rows, users, _] = self.keys_of(instance);
        let ConnectionLimits { per_user_max, per_tenant_max, on_excess } = self.limits;
        let mut args = vec![
            token.as_str().to_owned(),
            millis(self.timings.rows),
            per_user_max.to_string(),
            per_tenant_max.to_string(),
            on_excess.as_str().to_owned(),
        ];
        for change in changes {
            args.push(change.session().to_string());
            args.extend(match change {
                RowChange::Put(_, row, latest) => {
                    [RowRecord::encode(row), row.connected_at.0.to_string(), latest.to_string()]
                }
                RowChange::Remove(_) => Default::default(),
            });
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let function = Function::REGISTRY_WRITE;
        let answer = self.change(function, &[lease, rows, users, peers], &args).await?;
        replies::read_listed(&answer[1..]).ok_or_else(|| malformed(function, &answer))
    }
}
