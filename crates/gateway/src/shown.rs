//! Records as JSON: the same from the command line and from the administration port.

use records::{Behind, Body, KeptLetter, Standing};
use serde_json::{Value, json};
use wire::{Position, Timestamp, UserId};

/// A dead letter without its message.
#[must_use]
pub fn letter(letter: &KeptLetter) -> Value {
    json!({
        "id": letter.id.to_string(),
        "tenant": letter.tenant.as_str(),
        "reason": letter.reason,
        "channel": letter.channel,
        "position": letter.position,
        "published": letter.time.to_string(),
        "kept": letter.id.time.to_string(),
        "instance": letter.instance,
        "user": letter.user,
        "detail": letter.detail,
        "bytes": letter.size,
        "redacted": letter.body == Body::Redacted,
        "too_big": letter.body == Body::TooBig,
    })
}

/// How far a user has got. `behind` is null when it is unknown, and not `exact` when a failover lies between.
#[must_use]
pub fn receipt(standing: &Standing, user: &UserId, position: Position, time: Timestamp) -> Value {
    let (behind, exact) = match standing.behind(position) {
        Behind::Exactly(messages) => (Some(messages), true),
        Behind::AtMost(messages) => (Some(messages), false),
        Behind::Unknown => (None, false),
    };
    json!({
        "user": user.as_str(),
        "behind": behind,
        "exact": exact,
        "acknowledged": position.to_string(),
        "top": standing.top.map(|top| top.to_string()),
        "time": time.to_string(),
    })
}
