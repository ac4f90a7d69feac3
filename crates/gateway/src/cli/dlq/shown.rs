//! The output formats of dead letters: a table, a page and JSON. Control characters of publishers are escaped, so
//! that a dead letter cannot control the operator's terminal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use records::{Body, StoredDeadLetter};
use serde_json::Value;
use tidegate_gateway::record_json;

use crate::cli::table::{Table, printable};

/// Longest detail in a table, in characters. `show` prints all of it.
const DETAIL_CHARS_MAX: usize = 60;

/// Formats one line per dead letter, newest first.
pub(super) fn table(dead_letters: &[StoredDeadLetter]) -> String {
    let mut table = Table::new(&["ID", "REASON", "CHANNEL", "POSITION", "TIME", "BYTES", "INSTANCE", "USER", "WHAT"]);
    for dead_letter in dead_letters {
        table.row([
            dead_letter.id.to_string(),
            dead_letter.reason.clone(),
            dead_letter.channel.clone(),
            dead_letter.position.clone().unwrap_or_else(|| "-".into()),
            dead_letter.time.to_string(),
            dead_letter.size.to_string(),
            dead_letter.instance.clone(),
            dead_letter.user.clone().unwrap_or_else(|| "-".into()),
            shortened(&dead_letter.detail),
        ]);
    }
    table.to_string()
}

/// Formats all details of one dead letter.
pub(super) fn page(dead_letter: &StoredDeadLetter) -> String {
    let absent = || "-".to_owned();
    let rows = [
        ("id", dead_letter.id.to_string()),
        ("tenant", dead_letter.tenant.to_string()),
        ("reason", dead_letter.reason.clone()),
        ("channel", dead_letter.channel.clone()),
        ("position", dead_letter.position.clone().unwrap_or_else(absent)),
        ("published", dead_letter.time.to_string()),
        ("kept", dead_letter.id.time.to_string()),
        ("instance", dead_letter.instance.clone()),
        ("user", dead_letter.user.clone().unwrap_or_else(absent)),
        ("what", dead_letter.detail.clone()),
        ("bytes", dead_letter.size.to_string()),
        ("message", message(&dead_letter.body)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<9}  {}\n", printable(value))).collect()
}

/// Formats one JSON object, which includes the message.
pub(super) fn json(dead_letter: &StoredDeadLetter) -> Value {
    let mut object = record_json::dead_letter(dead_letter);
    if let Body::Message(message) = &dead_letter.body {
        match std::str::from_utf8(message) {
            Ok(text) => object["message"] = text.into(),
            Err(_) => object["message_base64"] = STANDARD.encode(message).into(),
        }
    }
    object
}

fn message(body: &Body) -> String {
    match body {
        Body::Message(message) => match std::str::from_utf8(message) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("{} (base64)", STANDARD.encode(message)),
        },
        Body::Redacted => "not kept: its family redacts dead letters".into(),
        Body::TooBig => "not kept: it is longer than dead_letters.message_bytes_max".into(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
