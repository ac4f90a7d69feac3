//! The connections of each session, and the subscriptions of clients that keep only the id of their session.

use std::collections::{BTreeSet, HashMap};

use crate::position::Position;

/// Every session that was named in the log.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    uses: HashMap<String, Vec<Use>>,
    /// By client; only clients that keep nothing but the id of their session.
    subscriptions: HashMap<String, Subscriptions>,
    /// Subscriptions of clients that were told `found: false` during an outage, by client and pattern: where each began.
    /// The record of that time may still be written, and be the next that the client gets.
    late_records: HashMap<(String, String), Position>,
}

/// The use of a session by one connection.
#[derive(Debug)]
struct Use {
    connection: u64,
    /// The line on which the session was named.
    began: usize,
    /// The line on which that connection ended.
    ended: Option<usize>,
}

/// The subscriptions of a client since its session began.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Channels and patterns that the client requested.
    pub(crate) asked: BTreeSet<String>,
    /// Channels and patterns that the gateway confirmed.
    pub(crate) confirmed: BTreeSet<String>,
}

impl Sessions {
    /// This connection continues this session.
    pub(crate) fn begin(&mut self, session: &str, connection: u64, line: usize) {
        let uses = self.uses.entry(session.to_owned()).or_default();
        if uses.iter().all(|other| other.connection != connection) {
            uses.push(Use { connection, began: line, ended: None });
        }
    }

    /// The connection has ended, as its client sees it.
    pub(crate) fn end(&mut self, session: &str, connection: u64, line: usize) {
        let uses = self.uses.get_mut(session).into_iter().flatten();
        uses.filter(|one| one.connection == connection).for_each(|one| one.ended = Some(line));
    }

    /// Whether the session may continue on another connection: one that had not ended when this one began.
    pub(crate) fn has_another(&self, session: &str, connection: u64) -> bool {
        let uses = self.uses.get(session).map_or(&[][..], Vec::as_slice);
        let Some(own) = uses.iter().find(|one| one.connection == connection) else { return false };
        let overlaps = |other: &Use| other.ended.is_none_or(|ended| ended > own.began);
        uses.iter().any(|other| other.connection != connection && overlaps(other))
    }

    pub(crate) fn subscriptions(&mut self, client: &str) -> &mut Subscriptions {
        self.subscriptions.entry(client.to_owned()).or_default()
    }

    /// The client begins a new session, or has none any more.
    pub(crate) fn forget(&mut self, client: &str) {
        self.subscriptions.remove(client);
    }

    /// The client was told that nothing is known, while its earlier instance may have a record that it cannot write.
    pub(crate) fn expect_late_record(&mut self, client: &str, pattern: &str, began: Position) {
        let earliest = self.late_records.entry((client.to_owned(), pattern.to_owned())).or_insert(began);
        *earliest = began.min(*earliest);
    }

    /// Whether a subscription may continue from here because of an earlier record.
    pub(crate) fn may_be_late_record(&self, client: &str, pattern: &str, position: Position) -> bool {
        let began = self.late_records.get(&(client.to_owned(), pattern.to_owned()));
        began.is_some_and(|began| position >= *began)
    }
}

/// Whether this close code tells a client not to reconnect, by the table of ranges in `docs/protocol.md`.
pub(crate) fn is_terminal(code: u16) -> bool {
    !matches!(code, 1001 | 1005 | 1006 | 1011..=1013 | 4000..=4499)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_connection_counts_unless_it_was_over_before() {
        let mut sessions = Sessions::default();
        sessions.begin("s", 1, 10);
        assert!(!sessions.has_another("s", 1));
        sessions.end("s", 1, 20);
        sessions.begin("s", 2, 30);
        assert!(!sessions.has_another("s", 2), "the first one had ended");
        sessions.begin("s", 3, 40);
        assert!(sessions.has_another("s", 2) && sessions.has_another("s", 3));
        assert!(!sessions.has_another("t", 2));
    }
}
