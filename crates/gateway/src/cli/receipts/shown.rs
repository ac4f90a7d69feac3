//! Receipts as people and programs read them.

use records::Lag;
use wire::{Position, Timestamp, UserId};

use crate::cli::table::Table;

/// How far behind, who, where, and since when.
pub(super) type ReceiptRow = (Lag, UserId, Position, Timestamp);

pub(super) fn table(rows: &[ReceiptRow], top: Option<Position>) -> String {
    let mut table = Table::new(&["USER", "LAG", "ACKNOWLEDGED", "TOP", "TIME"]);
    let top = top.map_or_else(|| "-".into(), |top| top.to_string());
    for (lag, user, position, time) in rows {
        let lag = match lag {
            Lag::Exactly(messages) => messages.to_string(),
            Lag::AtMost(messages) => format!("~{messages}"),
            Lag::Unknown => "?".into(),
        };
        table.row([user.to_string(), lag, position.to_string(), top.clone(), time.to_string()]);
    }
    table.to_string()
}
