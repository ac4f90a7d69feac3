//! The table of receipts.

use records::Lag;
use wire::{Position, Timestamp, UserId};

use crate::cli::table::Table;

/// Lag, user, acknowledged position, and the time of the acknowledgement.
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
