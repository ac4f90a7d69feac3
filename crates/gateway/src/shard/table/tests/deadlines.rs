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
    let sent_ms = table.shard.connection(alice).unwrap().ping_ms - 500;
    assert_eq!(table.looks_at(alice, sent_ms - 1), Wake::At(sent_ms));
    assert_eq!(table.received(alice), [""; 0], "it is not due");
    assert_eq!(table.looks_at(alice, sent_ms), Wake::At(sent_ms + 10_000));
    assert_eq!(table.received(alice), ["PING"]);
    assert_eq!(table.looks_at(alice, sent_ms + 9_999), Wake::At(sent_ms + 10_000));
    assert_eq!(table.received(alice), [""; 0], "there is time left");
    table.looks_at(alice, sent_ms + 10_000);
    assert_eq!(table.received(alice), ["bye", "close 4001"]);
}

#[test]
fn a_client_that_is_closed_has_all_of_the_timeout_to_answer() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let expired_ms = table.now.mono_ms + 600_000;
    table.now.unix_ms += 600_000;
    let cut_ms = expired_ms + CLOSE_TIMEOUT.as_millis() as u64;
    assert_eq!(table.looks_at(alice, expired_ms), Wake::At(cut_ms));
    assert_eq!(table.received(alice), ["error token_expired", "bye", "close 4002"]);
    for (ms, expected) in [(cut_ms - 1, Wake::Stale), (cut_ms, Wake::Disconnect)] {
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
    assert_eq!(table.shard.connection(alice).unwrap().state, ConnectionState::Open);
    table.looks_at(alice, blocked_ms + 30_000);
    assert_eq!(table.received(alice), ["bye", "close 4000"]);
}

#[test]
fn silence_is_pinged_and_then_ended() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let woken = |table: &mut Table, ms| {
        table.now.mono_ms = ms;
        table.shard.wake(alice, table.now)
    };
    let Wake::At(ping_ms) = ({
        let first = table.shard.connection(alice).unwrap().wake_ms;
        woken(&mut table, first)
    }) else {
        panic!("a ping is due and it is woken again");
    };
    assert_eq!(table.received(alice), ["PING"]);
    assert_eq!(woken(&mut table, ping_ms - 1), Wake::Stale);
    table.shard.peer_alive(alice);
    assert!(matches!(woken(&mut table, ping_ms), Wake::At(_)));
    assert_eq!(table.received(alice), Vec::<String>::new(), "it answered in time");
    let next_ms = table.shard.connection(alice).unwrap().wake_ms;
    let Wake::At(late_ms) = woken(&mut table, next_ms) else { panic!("pinged again") };
    assert_eq!(table.received(alice), ["PING"]);
    woken(&mut table, late_ms);
    assert_eq!(table.received(alice), ["bye", "close 4001"]);
}

#[test]
fn pings_further_apart_than_the_wheel_is_long_are_sent_and_expiry_between_them_is_seen() {
    let mut table = Table::new();
    Arc::get_mut(&mut table.shard.rules).unwrap().limits.ping_interval_ms = 200_000;
    let grain_ms = table.shard.rules.limits.timer_grain_ms();
    let (alice, mut wheel) = (table.connect("alice"), Wheel::new(table.now.mono_ms, grain_ms));
    wheel.schedule(alice, table.shard.connection(alice).unwrap().wake_ms);
    let (mut received, mut due) = (Vec::new(), Vec::new());
    for _ in 0..700 {
        (table.now.mono_ms, table.now.unix_ms) = (table.now.mono_ms + 1_000, table.now.unix_ms + 1_000);
        wheel.take_due(table.now.mono_ms, &mut due);
        for slot in due.drain(..) {
            if let Wake::At(at_ms) = table.shard.wake(slot, table.now) {
                wheel.schedule(slot, at_ms);
            }
        }
        received.extend(table.received(alice));
        table.shard.peer_alive(alice);
    }
    assert_eq!(received, ["PING", "PING", "PING", "error token_expired", "bye", "close 4002"]);
}

#[test]
fn the_way_there_and_back_is_measured_by_the_pong_to_our_ping_alone() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let rtt_ms = |table: &mut Table| table.shard.connection(alice).unwrap().rtt_ms.map(NonZeroU16::get);
    let ping = |table: &mut Table| {
        table.now.mono_ms = table.shard.connection(alice).unwrap().ping_ms;
        table.shard.wake(alice, table.now);
        let outbox = &mut table.shard.connection(alice).unwrap().outbox;
        let bytes = outbox.take_entry();
        assert_eq!(frames(&bytes), ["PING"]);
        bytes[2..].to_vec()
    };
    table.shard.pong(alice, b"", table.now);
    assert_eq!(rtt_ms(&mut table), None, "nobody asked");
    let first = ping(&mut table);
    table.shard.pong(alice, b"", table.now);
    assert_eq!(rtt_ms(&mut table), None, "it is no answer");
    // What comes before the answer shows that the client lives, and the answer counts all the same.
    table.now.mono_ms += 20;
    table.shard.peer_alive(alice);
    table.now.mono_ms += 22;
    table.shard.peer_alive(alice);
    table.shard.pong(alice, &first, table.now);
    assert_eq!(rtt_ms(&mut table), Some(42));
    table.now.mono_ms += 9;
    table.shard.pong(alice, &first, table.now);
    assert_eq!(rtt_ms(&mut table), Some(42), "once");
    let second = ping(&mut table);
    table.shard.pong(alice, &first, table.now);
    assert_eq!(rtt_ms(&mut table), Some(42), "it is late, and would look fast");
    table.shard.pong(alice, &second, table.now);
    assert_eq!(rtt_ms(&mut table), Some(1), "under a millisecond is one");
    assert_eq!(table.shard.counters.rtt.buckets.iter().map(crate::metrics::counters::Counter::get).sum::<u64>(), 2);
}

/// The time between two pings of a client that answers, on a thread that ticks a little late, for some intervals.
#[test]
fn pings_are_never_further_apart_than_the_interval() {
    for (interval_ms, pong_ms, late_ms) in [
        (30_000, 10_000, 3),
        (3_000, 1_000, 3),
        (1_000, 500, 2),
        (30_000, 29_999, 200),
        (100, 50, 3),
        (200_000, 10_000, 9),
    ] {
        let mut table = Table::new();
        let limits = &mut Arc::get_mut(&mut table.shard.rules).unwrap().limits;
        (limits.ping_interval_ms, limits.pong_timeout_ms) = (interval_ms, pong_ms);
        let (alice, grain_ms) = (table.connect("alice"), table.shard.rules.limits.timer_grain_ms());
        let mut wheel = Wheel::new(table.now.mono_ms, grain_ms);
        wheel.schedule(alice, table.shard.connection(alice).unwrap().wake_ms);
        let (mut pings, mut due, begun_ms) = (vec![table.now.mono_ms], Vec::new(), table.now.mono_ms);
        let mut tick = begun_ms / grain_ms;
        while pings.len() < 20 {
            tick += 1;
            table.now.mono_ms = tick * grain_ms + tick % (late_ms + 1);
            wheel.take_due(table.now.mono_ms, &mut due);
            for slot in due.drain(..) {
                if let Wake::At(at_ms) = table.shard.wake(slot, table.now) {
                    wheel.schedule(slot, at_ms);
                }
            }
            if table.received(alice).iter().any(|frame| frame == "PING") {
                pings.push(table.now.mono_ms);
            }
            table.shard.peer_alive(alice);
            assert!(table.now.mono_ms - begun_ms < 25 * interval_ms, "{interval_ms}: {pings:?}");
        }
        let gaps = pings.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| gap <= interval_ms), "{interval_ms}: {pings:?}");
        // More often than needed is data and battery of a phone.
        assert!(gaps.skip(1).all(|gap| gap >= interval_ms - interval_ms / 2), "{interval_ms}: {pings:?}");
    }
}

/// What waits for a client's answer waits for all of its time, and not noticeably longer.
#[test]
fn deadlines_pass_within_a_quarter_of_a_second() {
    let mut table = Table::new();
    let grain_ms = table.shard.rules.limits.timer_grain_ms();
    assert!(grain_ms <= 250);
    let mut wheel = Wheel::new(table.now.mono_ms, grain_ms);
    let mut due = Vec::new();
    let nobody = table.shard.open(Session::new(SessionId::from_random(2), None), Opening::AwaitHello, table.now);
    let opened_ms = table.now.mono_ms;
    wheel.schedule(nobody, table.shard.first_wake(nobody, table.now));
    while !table.received(nobody).contains(&"close 4003".to_owned()) {
        table.now.mono_ms += 1;
        wheel.take_due(table.now.mono_ms, &mut due);
        for slot in due.drain(..) {
            if let Wake::At(at_ms) = table.shard.wake(slot, table.now) {
                wheel.schedule(slot, at_ms);
            }
        }
        assert!(table.now.mono_ms - opened_ms <= 10_250, "a hello is awaited too long");
    }
    assert!(table.now.mono_ms - opened_ms >= 10_000, "a hello is not awaited long enough");
}
