//! docs/guarantees.md through HAProxy, row by row. Each row of its tables names the check that tests it here, or the
//! reason why no check can.
//!
//! Users run a load balancer in front of the gateways, so the guarantees must also hold behind one.

mod delivery;
mod publisher;
mod restore;

use super::{Proof, Trial};

/// Families beside the built-in families, for all gateways.
pub(super) const FAMILIES: (&str, &str) =
    ("TIDEGATE_FAMILIES", r#"[{ name = "unkept", history_entries_max = 0 }, { name = "room", presence = true }]"#);
const UNKEPT: &str = "unkept:1:ops";
const MEMBERS: &str = "room:1:ops";

/// One row of a table in docs/guarantees.md.
struct Row {
    /// The text of its first cell.
    row: &'static str,
    shown: Shown,
}

enum Shown {
    By(&'static [Proof]),
    /// The reason why the row cannot be tested in front of this fleet, and what tests it instead.
    Elsewhere(&'static str),
}

use Shown::{By, Elsewhere};

const MOVED: Proof =
    Proof { name: "a_moved_client_gets_exactly_the_rest", run: Trial::moves_a_client_and_gives_it_exactly_the_rest };
const DISCONNECTED: Proof = Proof {
    name: "a_disconnected_client_gets_exactly_the_rest",
    run: Trial::disconnects_a_client_and_gives_it_exactly_the_rest,
};
const REPLACED: Proof = Proof {
    name: "a_replaced_client_gets_exactly_the_rest",
    run: Trial::replaces_a_client_and_gives_it_exactly_the_rest,
};
const REBALANCED: Proof = Proof {
    name: "a_rebalanced_client_gets_exactly_the_rest",
    run: |trial| trial.sends_clients_of_a_full_instance_to_empty_ones(),
};
const UNCONFIRMED: Proof =
    Proof { name: "an_end_that_is_not_confirmed_repeats", run: Trial::repeats_where_an_end_is_not_confirmed };
const KILLED: Proof = Proof { name: "a_killed_instance_is_replaced", run: Trial::goes_on_without_a_killed_instance };
const HUNG: Proof = Proof { name: "a_hung_redis_is_told_of", run: Trial::says_what_it_does_not_know_while_redis_hangs };
const DROPPED: Proof = Proof { name: "a_dropped_message_is_repaired", run: Trial::repairs_what_pub_sub_has_dropped };
const FLUSHED: Proof = Proof { name: "a_flushed_redis_is_a_gap", run: Trial::tells_of_a_redis_that_was_flushed };
const SLOW: Proof = Proof { name: "a_slow_client_gets_the_same_later", run: Trial::gives_a_slow_client_the_same_later };
const ISOLATED: Proof = Proof {
    name: "an_isolated_instance_serves_its_own",
    run: |trial| trial.keeps_every_socket_when_the_whole_fleet_is_isolated(),
};
const DURABLE: Proof = Proof { name: "durable_is_stored", run: Trial::acknowledges_what_it_has_stored };
const PUBLISHED: Proof = Proof { name: "published_is_on_its_way", run: Trial::acknowledges_what_is_not_kept };
const ORDER: Proof = Proof { name: "a_scope_has_one_order", run: Trial::keeps_one_order_for_all };
const VANISHED: Proof = Proof { name: "a_vanished_client_is_noticed", run: Trial::notices_a_client_that_vanished };
/// Stops an instance for longer than its lease.
pub(super) const FENCED: Proof = Proof {
    name: "an_instance_that_slept_is_fenced",
    run: |trial| trial.fences_an_instance_that_slept_past_its_lease(),
};

const FAILOVER: &str = "this fleet has one Redis; `cargo xtask chaos` fails over under clients, and the tests `topology` of \
                        message-router under Sentinel";
const DROPPING: &str = "no Redis drops one message of a connection and keeps the connection: the simulation does, and chaos \
                        with a proxy in between";

/// The tables of docs/guarantees.md in its order, by section.
const TABLES: &[(&str, &[Row])] = &[
    (
        "To a client",
        &[
            Row {
                row: "the client was moved, replaced or disconnected, and answered the close",
                shown: By(&[MOVED, DISCONNECTED, REPLACED, REBALANCED]),
            },
            Row {
                row: "the network failed, or the connection ended in another way that the client did not confirm",
                shown: By(&[UNCONFIRMED]),
            },
            Row { row: "its instance was killed, or has not been able to write to Redis since", shown: By(&[KILLED]) },
            Row { row: "its instance was killed, or the network failed", shown: By(&[KILLED]) },
            Row { row: "the instance lost Redis for a while", shown: By(&[HUNG]) },
            Row { row: "pub/sub dropped a message", shown: By(&[DROPPED]) },
            Row { row: "Redis failed over and lost writes that clients had seen", shown: Elsewhere(FAILOVER) },
            Row { row: "Redis restarted empty, or was flushed", shown: By(&[FLUSHED]) },
            Row { row: "the client read too slowly", shown: By(&[SLOW]) },
            Row { row: "messages were delivered within an isolated instance only", shown: By(&[ISOLATED]) },
        ],
    ),
    (
        "To a publisher",
        &[
            Row {
                row: "`replicated`",
                shown: Elsewhere(
                    "this fleet's Redis has no replica; the tests `redis_broker` of message-router have one",
                ),
            },
            Row { row: "`durable`", shown: By(&[DURABLE]) },
            Row { row: "`published`", shown: By(&[PUBLISHED]) },
            Row { row: "`local`", shown: By(&[ISOLATED]) },
            Row { row: "error `unavailable`", shown: By(&[HUNG]) },
            Row { row: "error `unknown`", shown: By(&[HUNG]) },
        ],
    ),
    (
        "By topology",
        &[
            Row { row: "order", shown: By(&[ORDER]) },
            Row { row: "stored and published", shown: By(&[DURABLE]) },
            Row {
                row: "an acknowledged message survives",
                shown: Elsewhere(
                    "what Redis keeps is between it and its disk, behind every gateway; chaos restarts it",
                ),
            },
            Row { row: "`replicated` acknowledgement", shown: Elsewhere(FAILOVER) },
            Row { row: "when acknowledged messages were lost", shown: By(&[FLUSHED]) },
            Row { row: "both sides of a partition accepted publishes", shown: Elsewhere(FAILOVER) },
            Row { row: "while the primary is unavailable", shown: By(&[ISOLATED]) },
        ],
    ),
    (
        "How long until it is noticed",
        &[
            Row { row: "a connection to Redis that broke", shown: By(&[DROPPED]) },
            Row {
                row: "a Redis that accepts connections and does not answer; a subscriber left on a demoted node",
                shown: By(&[HUNG]),
            },
            Row { row: "a lost message followed by another one", shown: Elsewhere(DROPPING) },
            Row { row: "a lost message followed by none", shown: Elsewhere(DROPPING) },
            Row {
                row: "one subscription that Redis ended (a slot moved, a node of a cluster failed)",
                shown: Elsewhere("this fleet's Redis is no cluster; the tests `topology` of message-router move slots"),
            },
            Row { row: "a client that disappeared without closing its connection", shown: By(&[VANISHED]) },
            Row { row: "a killed instance's connections, in limits and `tidegate who`", shown: By(&[KILLED]) },
            Row { row: "a killed instance's members, by clients that watch the scope", shown: By(&[KILLED]) },
            Row { row: "an instance that was stopped for longer than its lease", shown: By(&[FENCED]) },
        ],
    ),
];

/// The rows that are not tested here, with the reason.
pub(super) fn elsewhere() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = TABLES.iter().flat_map(|(_, rows)| *rows);
    rows.filter_map(|row| if let Elsewhere(why) = row.shown { Some((row.row, why)) } else { None })
}

/// The checks of the rows, each as often as rows name it, without the checks that the lane runs at its end.
pub(super) fn proofs() -> impl Iterator<Item = &'static Proof> {
    let rows = TABLES.iter().flat_map(|(_, rows)| *rows);
    let proofs = rows.flat_map(|row| if let By(proofs) = row.shown { proofs } else { &[] });
    proofs.filter(|proof| proof.name != FENCED.name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    /// The first cells of the tables below each heading of docs/guarantees.md that has a table.
    fn documented() -> Vec<(String, Vec<String>)> {
        let text = fs::read_to_string(workspace::root().join("docs/guarantees.md")).expect("the document is there");
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        let mut is_head = true;
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                tables.push((heading.to_owned(), Vec::new()));
            }
            match line.strip_prefix('|').and_then(|line| line.split('|').next()) {
                None => is_head = true,
                Some(cell) if cell.trim().starts_with("---") => is_head = false,
                Some(_) if is_head => {}
                Some(cell) => tables.last_mut().expect("below a heading").1.push(cell.trim().to_owned()),
            }
        }
        tables.retain(|(_, rows)| !rows.is_empty());
        tables
    }

    #[test]
    fn every_row_of_the_document_is_tried_or_says_why_not() {
        let rows = |rows: &[Row]| rows.iter().map(|row| row.row.to_owned()).collect::<Vec<_>>();
        let tried: Vec<_> = TABLES.iter().map(|(section, table)| ((*section).to_owned(), rows(table))).collect();
        assert_eq!(documented(), tried);
        for row in TABLES.iter().flat_map(|(_, rows)| *rows) {
            match row.shown {
                By(proofs) => assert!(!proofs.is_empty(), "{}", row.row),
                Elsewhere(why) => assert!(why.len() > 40, "{}: {why}", row.row),
            }
        }
    }
}
