//! Receipts as people and programs read them.

use records::Behind;
use wire::{Position, Timestamp, UserId};

use crate::cli::table::Table;

/// How far behind, who, where, and since when.
pub(super) type Row = (Behind, UserId, Position, Timestamp);

pub(super) fn table(rows: &[Row], top: Option<Position>) -> String {
    let mut table = Table::new(&["USER", "BEHIND", "ACKNOWLEDGED", "TOP", "TIME"]);
    let top = top.map_or_else(|| "-".into(), |top| top.to_string());
    for (behind, user, position, time) in rows {
        let behind = match behind {
            Behind::Exactly(messages) => messages.to_string(),
            Behind::AtMost(messages) => format!("~{messages}"),
            Behind::Unknown => "?".into(),
        };
        table.row([user.to_string(), behind, position.to_string(), top.clone(), time.to_string()]);
    }
    table.to_string()
}
