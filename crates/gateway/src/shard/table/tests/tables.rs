//! How much room tables take that thousands of connections fill and leave.

use super::*;
use crate::shard::table::shrink::should_shrink;

#[test]
fn the_table_of_connections_grows_by_an_eighth() {
    let mut table = Table::new();
    for n in 1..=2_000 {
        table.connect(&format!("user-{n}"));
        let capacity = table.shard.connections.capacity();
        assert!(capacity <= n + (n / 8).max(64), "{capacity} for {n}");
    }
}

#[test]
fn a_table_is_loose_when_three_quarters_of_a_large_one_are_empty() {
    for (capacity, len, expected) in [(1_024, 0, false), (1_028, 256, true), (1_028, 257, false), (8_000, 2_000, false)]
    {
        assert_eq!(should_shrink(capacity, len), expected, "{len} of {capacity}");
    }
}

/// As many again may come before they grow.
#[test]
fn tables_by_scope_and_of_slow_clients_keep_twice_what_they_hold() {
    let mut table = Table::new();
    let slots: Vec<Slot> = (0..4_000).map(|n| table.connect(&format!("user-{n}"))).collect();
    for (n, slot) in slots.iter().enumerate() {
        table.live(*slot, &format!("collection:{n}:ops"), 0);
        table.shard.note_behind(*slot, n as u64);
    }
    slots[300..].iter().for_each(|slot| drop(table.shard.remove(*slot)));
    table.shard.shrink();
    let ([(_, scopes), _], (_, slow_clients)) = (table.shard.subscriptions.tables(), table.shard.slow_clients.table());
    for (name, capacity) in [("scopes", scopes), ("slow clients", slow_clients)] {
        assert!((600..1_200).contains(&capacity), "{name}: {capacity}");
    }
}
