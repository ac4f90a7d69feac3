//! Letters as people and programs read them. What publishers wrote is printed without control characters: a dead
//! letter must not write to the operator's terminal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use records::{Body, KeptLetter};
use serde_json::Value;
use tidegate_gateway::shown;

use crate::cli::table::{Table, printable};

/// A sentence in a table is cut after this many characters; `show` has all of it.
const DETAIL_CHARS_MAX: usize = 60;

/// One line for each letter, newest first.
pub(super) fn table(letters: &[KeptLetter]) -> String {
    let mut table = Table::new(&["ID", "REASON", "CHANNEL", "POSITION", "TIME", "BYTES", "INSTANCE", "USER", "WHAT"]);
    for letter in letters {
        table.row([
            letter.id.to_string(),
            letter.reason.clone(),
            letter.channel.clone(),
            letter.position.clone().unwrap_or_else(|| "-".into()),
            letter.time.to_string(),
            letter.size.to_string(),
            letter.instance.clone(),
            letter.user.clone().unwrap_or_else(|| "-".into()),
            shortened(&letter.detail),
        ]);
    }
    table.to_string()
}

/// All that is known of one letter.
pub(super) fn page(letter: &KeptLetter) -> String {
    let absent = || "-".to_owned();
    let rows = [
        ("id", letter.id.to_string()),
        ("tenant", letter.tenant.to_string()),
        ("reason", letter.reason.clone()),
        ("channel", letter.channel.clone()),
        ("position", letter.position.clone().unwrap_or_else(absent)),
        ("published", letter.time.to_string()),
        ("kept", letter.id.time.to_string()),
        ("instance", letter.instance.clone()),
        ("user", letter.user.clone().unwrap_or_else(absent)),
        ("what", letter.detail.clone()),
        ("bytes", letter.size.to_string()),
        ("message", message(&letter.body)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<9}  {}\n", printable(value))).collect()
}

/// One object, with the message.
pub(super) fn json(letter: &KeptLetter) -> Value {
    let mut object = shown::letter(letter);
    if let Body::Message(message) = &letter.body {
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
