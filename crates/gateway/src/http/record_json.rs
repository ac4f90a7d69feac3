//! Records as JSON, with the same format in the CLI and on the admin port.

use records::{Body, Lag, ScopeReceipts, StoredDeadLetter};
use serde_json::{Value, json};
use wire::{Position, Timestamp, UserId};

/// Converts a dead letter to JSON, without its message.
#[must_use]
pub fn dead_letter(dead_letter: &StoredDeadLetter) -> Value {
    json!({
        "id": dead_letter.id.to_string(),
        "tenant": dead_letter.tenant.as_str(),
        "reason": dead_letter.reason,
        "channel": dead_letter.channel,
        "position": dead_letter.position,
        "published": dead_letter.time.to_string(),
        "kept": dead_letter.id.time.to_string(),
        "instance": dead_letter.instance,
        "user": dead_letter.user,
        "detail": dead_letter.detail,
        "bytes": dead_letter.size,
        "redacted": dead_letter.body == Body::Redacted,
        "too_big": dead_letter.body == Body::TooBig,
    })
}

/// Converts a receipt to JSON. `lag` is null if it is unknown. `exact` is false if `lag` is only an upper bound,
/// because of a failover.
#[must_use]
pub fn receipt(scope_receipts: &ScopeReceipts, user: &UserId, position: Position, time: Timestamp) -> Value {
    let (lag, exact) = match scope_receipts.lag(position) {
        Lag::Exactly(messages) => (Some(messages), true),
        Lag::AtMost(messages) => (Some(messages), false),
        Lag::Unknown => (None, false),
    };
    json!({
        "user": user.as_str(),
        "lag": lag,
        "exact": exact,
        "acknowledged": position.to_string(),
        "top": scope_receipts.top.map(|top| top.to_string()),
        "time": time.to_string(),
    })
}
