//! Converts a dead letter to the fields of a stream entry and back. Operators can read the fields with any Redis
//! client.

use std::collections::HashMap;

use wire::{TenantId, Timestamp};

use crate::dead_letters::{Body, DeadLetter, DeadLetterId, StoredDeadLetter};

/// The fields of the entry: names and values alternate.
pub(super) fn write(dead_letter: &DeadLetter) -> Vec<Vec<u8>> {
    let mut fields = Vec::with_capacity(18);
    let mut put = |name: &str, value: &[u8]| fields.extend([name.as_bytes().to_vec(), value.to_vec()]);
    put("reason", dead_letter.reason.as_str().as_bytes());
    put("instance", dead_letter.instance.as_str().as_bytes());
    put("channel", dead_letter.channel().as_bytes());
    if let Some(user) = &dead_letter.user {
        put("user", user.as_str().as_bytes());
    }
    if let Some(position) = dead_letter.position {
        put("position", position.to_string().as_bytes());
    }
    put("at", dead_letter.time.0.to_string().as_bytes());
    put("detail", dead_letter.detail.as_bytes());
    put("size", dead_letter.size.to_string().as_bytes());
    match &dead_letter.body {
        Body::Message(message) => put("message", message),
        Body::Redacted => put("redacted", b"1"),
        Body::TooBig => put("too_big", b"1"),
    }
    fields
}

/// Reads a dead letter from an entry. Missing fields are left empty: an entry of another program must not hide the
/// others.
pub(super) fn read(tenant: &TenantId, id: DeadLetterId, mut fields: HashMap<Vec<u8>, Vec<u8>>) -> StoredDeadLetter {
    let body = match fields.remove(b"message".as_slice()) {
        Some(message) => Body::Message(message.into()),
        None if fields.contains_key(b"too_big".as_slice()) => Body::TooBig,
        None => Body::Redacted,
    };
    let mut text =
        |name: &str| fields.remove(name.as_bytes()).map(|value| String::from_utf8_lossy(&value).into_owned());
    StoredDeadLetter {
        id,
        tenant: tenant.clone(),
        reason: text("reason").unwrap_or_default(),
        instance: text("instance").unwrap_or_default(),
        channel: text("channel").unwrap_or_default(),
        user: text("user"),
        position: text("position"),
        time: Timestamp(text("at").and_then(|at| at.parse().ok()).unwrap_or(id.time.0)),
        detail: text("detail").unwrap_or_default(),
        size: text("size").and_then(|size| size.parse().ok()).unwrap_or(0),
        body,
    }
}
