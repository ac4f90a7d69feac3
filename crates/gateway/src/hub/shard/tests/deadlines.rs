//! What a connection is given time for, to the millisecond.

use super::*;
use crate::config::CLOSE_TIMEOUT;

impl Table {
    /// Looks at a connection at this moment, whatever the reason.
    fn looks_at(&mut self, slot: Slot, ms: u64) -> Wake {
        self.now.mono_ms = ms;
        self.shard.connection(slot).unwrap().wake_ms = 0;
        self.shard.wake(slot, self.now)
    }
}

#[test]
fn first_pings_are_spread_evenly_over_half_of_the_interval() {
    let mut table = Table::new();
    let mut by_second = [0; 15];
    for n in 0..1_500 {
        let slot = table.connect(&format!("user-{n}"));
        let after_ms = table.shard.connection(slot).unwrap().ping_ms - table.now.mono_ms;
        by_second[(after_ms as usize - 15_000) / 1_000] += 1;
    }
    assert!(by_second.iter().all(|count| (90..=110).contains(count)), "{by_second:?}");
}

#[test]
fn a_client_has_all_of_the_timeout_to_answer_a_ping() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let sent_ms = table.shard.connection(alice).unwrap().ping_ms;
    assert_eq!(table.looks_at(alice, sent_ms - 1), Wake::At(sent_ms));
    assert_eq!(table.heard(alice), [""; 0], "it is not due");
    assert_eq!(table.looks_at(alice, sent_ms), Wake::At(sent_ms + 10_000));
    assert_eq!(table.heard(alice), ["PING"]);
    assert_eq!(table.looks_at(alice, sent_ms + 9_999), Wake::At(sent_ms + 10_000));
    assert_eq!(table.heard(alice), [""; 0], "there is time left");
    table.looks_at(alice, sent_ms + 10_000);
    assert_eq!(table.heard(alice), ["bye", "close 4001"]);
}

#[test]
fn a_client_that_is_closed_has_all_of_the_timeout_to_answer() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let expired_ms = table.now.mono_ms + 600_000;
    table.now.unix_ms += 600_000;
    let cut_ms = expired_ms + CLOSE_TIMEOUT.as_millis() as u64;
    assert_eq!(table.looks_at(alice, expired_ms), Wake::At(cut_ms));
    assert_eq!(table.heard(alice), ["error token_expired", "bye", "close 4002"]);
    for (ms, expected) in [(cut_ms - 1, Wake::Stale), (cut_ms, Wake::Cut)] {
        table.now.mono_ms = ms;
        assert_eq!(table.shard.wake(alice, table.now), expected);
    }
}

#[test]
fn a_blocked_client_has_all_of_the_timeout_to_read() {
    let mut table = Table::new();
    Arc::get_mut(&mut table.shard.rules).unwrap().limits.ping_interval_ms = 200_000;
    let alice = table.connect("alice");
    let blocked_ms = table.now.mono_ms;
    assert_eq!(table.shard.block(alice, table.now), Some(blocked_ms + 30_000), "it is looked at sooner");
    assert_eq!(table.looks_at(alice, blocked_ms + 29_999), Wake::At(blocked_ms + 30_000));
    assert_eq!(table.shard.connection(alice).unwrap().life, Life::Open);
    table.looks_at(alice, blocked_ms + 30_000);
    assert_eq!(table.heard(alice), ["bye", "close 4000"]);
}
