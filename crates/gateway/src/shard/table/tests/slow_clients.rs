//! Clients that read too slowly, by what their family wants for them.

use message_router::{FamilyPolicy, OnSlow};

use super::*;

impl Table {
    /// The socket of a client takes nothing any more.
    fn blocks(&mut self, slot: Slot) {
        self.shard.block(slot, self.now);
    }

    /// The client reads all that is queued, and its socket takes more.
    fn reads(&mut self, slot: Slot) -> Vec<String> {
        self.shard.unblock(slot);
        let received = self.received(slot);
        self.shard.resume_replays(slot);
        received
    }

    /// Publishes these in order, and says behind which of them nothing more was queued for a client that is blocked.
    fn publishes(&mut self, topic: &str, offsets: std::ops::RangeInclusive<u64>) {
        for offset in offsets {
            self.publish("collection:42", topic, offset);
        }
    }
}

/// What a client has heard, as offsets of one channel.
fn offsets(received: &[String], channel: &str) -> Vec<u64> {
    let offset = |text: &String| text.strip_prefix(channel)?.strip_prefix('@')?.parse().ok();
    received.iter().filter_map(offset).collect()
}

fn ops(offsets: std::ops::RangeInclusive<u64>) -> Vec<(&'static str, u64)> {
    offsets.map(|offset| ("ops", offset)).collect()
}

const OPS: &str = "collection:42:ops";

#[test]
fn a_slow_client_reads_the_rest_from_history_in_order_and_costs_nobody_else_anything() {
    let mut table = Table::new();
    let (slow, quick) = (table.connect("slow"), table.connect("quick"));
    table.live(slow, "collection:42:*", 0);
    table.live(quick, "collection:42:*", 0);
    table.blocks(slow);
    for offset in 1..=100 {
        table.publish("collection:42", "ops", offset);
        assert_eq!(table.received(quick), [format!("{OPS}@{offset}")]);
    }
    assert!(table.requests().is_empty(), "nothing is read before there is room");
    assert_eq!(table.shard.counters.slow_clients.get(), 1);
    let first = offsets(&table.reads(slow), OPS);
    let last = first.len() as u64;
    assert!(first.iter().copied().eq(1..=last) && last < 100, "what was queued, without a hole: {first:?}");
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(last)), "behind the last one queued");
    // While history is read, messages come.
    table.publishes("ops", 101..=103);
    table.shard.joined(joiner, page(Start::Resumed, ops(last + 1..=102), Some(102), false));
    table.publishes("ops", 104..=104);
    assert!(offsets(&table.reads(slow), OPS).iter().copied().eq(last + 1..=104));
    assert_eq!(table.shard.counters.slow_clients.get(), 0);
    assert_eq!(table.shard.counters.slow_catch_ups.get(), 1);
    assert_eq!(table.shard.counters.backlog.get(), 0);
}

#[test]
fn overlapping_subscriptions_fall_behind_together_and_each_message_comes_once() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 0);
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let first = offsets(&table.reads(slow), OPS);
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(first.len() as u64)));
    table.shard.joined(joiner, page(Start::Resumed, ops(first.len() as u64 + 1..=60), Some(60), false));
    let all = [first, offsets(&table.reads(slow), OPS)].concat();
    assert!(all.iter().copied().eq(1..=60), "{all:?}");
}

#[test]
fn who_subscribes_to_a_scope_while_behind_in_it_is_answered_behind_what_it_has_missed() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    table.client_sends(slow, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    assert!(table.requests().is_empty(), "the older one comes first");
    let first = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, ops(first + 1..=60), Some(60), false));
    assert!(offsets(&table.reads(slow), OPS).iter().copied().eq(first + 1..=60));
    let (joiner, after) = table.joiner();
    assert_eq!(after, None);
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(60), false));
    table.publishes("ops", 61..=61);
    assert_eq!(table.reads(slow), ["subscribed collection:42:*", "collection:42:ops@61"]);
}

#[test]
fn a_join_that_counted_on_a_subscription_that_falls_behind_begins_again() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 0);
    table.client_sends(slow, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (stale, _) = table.joiner();
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    table.shard.joined(stale, page(Start::Fresh, vec![], Some(60), false));
    let first = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(first)), "the old answer finds nobody");
    table.shard.joined(joiner, page(Start::Resumed, ops(first + 1..=60), Some(60), false));
    assert!(offsets(&table.reads(slow), OPS).iter().copied().eq(first + 1..=60));
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(60), false));
    assert_eq!(table.reads(slow), ["subscribed collection:42:*"]);
}

#[test]
fn what_a_subscription_delivered_before_it_fell_behind_does_not_come_again_with_the_replay_of_another() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 2);
    table.publishes("ops", 3..=3);
    table.client_sends(slow, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    let entries = vec![("ops", 1), ("other", 2), ("ops", 3)];
    table.shard.joined(joiner, page(Start::Resumed, entries, Some(3), true));
    assert_eq!(offsets(&table.reads(slow), OPS), [3, 1]);
    assert_eq!(table.joiner(), (joiner, Some(at(3))));
    table.blocks(slow);
    table.publishes("ops", 4..=60);
    table.shard.joined(joiner, page(Start::Resumed, ops(4..=60), Some(60), false));
    let first = offsets(&table.reads(slow), OPS);
    let all = match &table.requests()[..] {
        [] => first,
        [PumpRequest::Join { joiner, after, .. }] => {
            let last = after.lowest().unwrap().offset;
            table.shard.joined(*joiner, page(Start::Resumed, ops(last + 1..=60), Some(60), false));
            [first, offsets(&table.reads(slow), OPS)].concat()
        }
        other => panic!("{other:?}"),
    };
    assert!(all.iter().copied().eq(4..=60), "{all:?}");
}

#[test]
fn who_unsubscribes_or_goes_while_behind_leaves_nothing_behind() {
    for may_evict in [false, true] {
        let mut table = Table::new();
        let slow = table.connect("slow");
        table.live(slow, "collection:42:*", 0);
        table.blocks(slow);
        table.publishes("ops", 1..=60);
        if may_evict {
            table.shard.remove(slow);
        } else {
            table.client_sends(slow, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
            let received = table.reads(slow);
            assert_eq!(received.last().unwrap(), "unsubscribed collection:42:*", "not ahead of its messages");
        }
        assert!(matches!(&table.requests()[..], [PumpRequest::Leave { .. }]));
        let shard = &table.shard;
        let [(scopes, _), (joins, _)] = shard.subscriptions.tables();
        assert_eq!((joins, scopes, shard.slow_clients.table().0), (0, 0, 0));
        let counters = &shard.counters;
        assert_eq!((counters.slow_clients.get(), counters.slow_catch_ups.get(), counters.backlog.get()), (0, 0, 0));
    }
}

#[test]
fn no_position_is_told_over_messages_that_are_yet_to_be_read() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    table.reads(slow);
    let (joiner, _) = table.joiner();
    table.now.mono_ms += 31_000;
    table.shard.wake(slow, table.now);
    assert_eq!(table.received(slow), ["PING"]);
    table.shard.peer_alive(slow);
    table.shard.joined(joiner, page(Start::Resumed, ops(50..=60), Some(60), false));
    table.reads(slow);
    table.publishes("other", 61..=61);
    table.now.mono_ms += 31_000;
    table.shard.wake(slow, table.now);
    assert_eq!(table.received(slow), ["PING", "position"]);
}

#[test]
fn while_the_broker_is_away_a_client_that_is_behind_waits_without_a_word() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let first = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Degraded, vec![], None, false));
    assert_eq!(table.reads(slow), Vec::<String>::new());
    table.shard.joined(joiner, page(Start::Resumed, ops(first + 1..=60), Some(60), false));
    assert!(offsets(&table.reads(slow), OPS).iter().copied().eq(first + 1..=60));
}

#[test]
fn a_gap_that_live_clients_were_told_of_meanwhile_comes_at_its_place() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let gap = Gap { after: Some(at(60)), upto: at(65), reason: GapReason::Failover, certain: false };
    table.shard.gap(&scope, gap);
    table.publishes("ops", 66..=67);
    let first = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, _) = table.joiner();
    // What the others were told is missing is in the history after all: nobody gets it.
    table.shard.joined(joiner, page(Start::Resumed, ops(first + 1..=67), Some(67), false));
    let received = table.reads(slow);
    let gap = received.iter().position(|text| text == "gap collection:42:*").expect("it is told");
    assert!(offsets(&received[..gap], OPS).iter().copied().eq(first + 1..=60), "{received:?}");
    assert_eq!(offsets(&received[gap..], OPS), [66, 67]);
}

#[test]
fn a_client_whose_outbox_has_room_receives_though_its_socket_takes_nothing() {
    let mut table = Table::new();
    let (slow, quick) = (table.connect("slow"), table.connect("quick"));
    table.live(slow, OPS, 0);
    table.live(quick, OPS, 0);
    table.blocks(slow);
    let received: Vec<u64> = (1..=60).map(|offset| table.publish("collection:42", "ops", offset)).collect();
    let queued = offsets(&table.reads(slow), OPS).len();
    let expected: Vec<u64> = (0..60).map(|n| if n < queued { 2 } else { 1 }).collect();
    assert_eq!(received, expected);
}

/// Up to eight are told one by one, with what lies between them; further ones widen the last.
#[test]
fn gaps_that_came_while_a_client_was_behind_are_told_one_by_one() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, OPS, 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let first = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, _) = table.joiner();
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    for n in 20..30 {
        let gap = Gap { after: Some(at(3 * n)), upto: at(3 * n + 2), reason: GapReason::Failover, certain: false };
        table.shard.gap(&scope, gap);
        table.publish("collection:42", "ops", 3 * n + 3);
    }
    table.shard.joined(joiner, page(Start::Resumed, ops(first + 1..=90), Some(90), false));
    let message = |offset: u64| format!("{OPS}@{offset}");
    let gap = || format!("gap {OPS}");
    let before = (first + 1..=60).map(message);
    let apart = (21..28).flat_map(|n| [gap(), message(3 * n)]);
    let expected: Vec<String> = before.chain(apart).chain([gap(), message(90)]).collect();
    assert_eq!(table.reads(slow), expected);
}

#[test]
fn who_is_told_that_all_is_gone_is_not_moved_to_where_the_others_stood_in_between() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    // Redis begins anew above what it had, under a clock that is ahead, and then again, below it.
    let anew = [Position::new(GENERATION + 3, 0), Position::new(GENERATION + 1, 4)];
    let gap = |after, upto| Gap { after: Some(after), upto, reason: GapReason::UnknownPosition, certain: false };
    table.shard.gap(&scope, gap(at(60), anew[0]));
    table.shard.gap(&scope, gap(anew[0], anew[1]));
    table.reads(slow);
    let (joiner, after) = table.joiner();
    let joined = CatchUpPage {
        start: Start::Gap(gap(after.expect("it is behind"), anew[1])),
        lost: Vec::new(),
        messages: vec![],
        upto: Some(anew[1]),
        more: false,
    };
    table.shard.joined(joiner, joined);
    let sent = format!("collection:42:* unknown_position {}..{}", after.unwrap(), anew[1]);
    assert_eq!(table.gaps(slow), [sent]);
    assert_eq!(table.shard.subscriptions.top(&scope), Some(anew[1]), "nobody is moved to a history that is gone");
}

#[test]
fn what_history_has_no_more_is_a_gap() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    table.reads(slow);
    let (joiner, after) = table.joiner();
    let gap = Gap { after, upto: at(60), reason: GapReason::Expired, certain: true };
    table.shard.joined(joiner, page(Start::Gap(gap), vec![], Some(60), false));
    table.publishes("ops", 61..=61);
    assert_eq!(table.reads(slow), ["gap collection:42:*", "collection:42:ops@61"]);
}

#[test]
fn a_client_that_never_reads_is_closed_in_time() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    let since_ms = table.now.mono_ms;
    table.blocks(slow);
    table.publishes("ops", 1..=100);
    // It sends, so that it is no silence that ends it.
    while table.shard.connection(slow).unwrap().state == ConnectionState::Open {
        table.now.mono_ms = table.shard.connection(slow).unwrap().wake_ms;
        assert!(table.now.mono_ms <= since_ms + 30_000, "30 s are over");
        table.shard.peer_alive(slow);
        table.shard.wake(slow, table.now);
    }
    assert_eq!(table.now.mono_ms, since_ms + 30_000);
    assert_eq!(table.shard.counters.slow_closes.get(), 1);
    assert_eq!(table.received(slow), ["bye", "close 4000"]);
}

#[test]
fn a_client_that_reads_is_not_taken_for_a_silent_one() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    let mut pings = 0;
    for n in 1..=300 {
        table.blocks(slow);
        table.publish("collection:42", "ops", n);
        table.now.mono_ms += 1_000;
        table.shard.wake(slow, table.now);
        pings += table.reads(slow).iter().filter(|text| *text == "PING").count();
    }
    assert!(pings > 5);
    assert_eq!(
        table.shard.connection(slow).unwrap().state,
        ConnectionState::Open,
        "its answers are behind what it reads"
    );
}

#[test]
fn answers_find_room_beside_messages_and_close_who_never_reads_them() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=100);
    for _ in 0..8 {
        table.client_sends(slow, r#"{"type":"ping"}"#);
    }
    assert_eq!(table.shard.connection(slow).unwrap().state, ConnectionState::Open);
    let received = table.reads(slow);
    assert_eq!(received.iter().filter(|text| *text == "pong").count(), 8);
    table.blocks(slow);
    for _ in 0..400 {
        table.now.mono_ms += 10;
        table.client_sends(slow, r#"{"type":"ping"}"#);
    }
    assert_eq!(table.received(slow), ["bye", "close 4000"]);
}

#[test]
fn what_was_queued_at_once_is_thinned_out_when_the_socket_does_not_take_it() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.publishes("ops", 1..=300);
    assert!(table.shard.connection(slow).unwrap().outbox.bytes() > 4 * 4_096, "nobody knows yet that it is slow");
    table.blocks(slow);
    assert!(table.shard.connection(slow).unwrap().outbox.bytes() <= 4_096);
    table.publishes("ops", 301..=301);
    let first = offsets(&table.reads(slow), OPS);
    let last = first.len() as u64;
    assert!(first.iter().copied().eq(1..=last), "{first:?}");
    assert_eq!(table.joiner().1, Some(at(last)), "exactly the dropped messages are read");
}

#[test]
fn over_the_backlog_limit_the_largest_are_dropped_and_each_is_read_again_from_its_position() {
    let mut table = Table::new();
    let slots = ["small", "large"].map(|name| table.connect(name));
    let [small, large] = slots;
    slots.iter().for_each(|slot| table.live(*slot, "collection:42:*", 0));
    table.blocks(large);
    table.publishes("ops", 1..=10);
    assert_eq!(table.received(small).len(), 10);
    table.blocks(small);
    table.publishes("ops", 11..=15);
    // Two of them are written to the last byte, and of the third a part.
    table.shard.unblock(large);
    let outbox = &mut table.shard.connection(large).unwrap().outbox;
    let frame = outbox.take_entry().len();
    assert_eq!(outbox.take_entry().len(), frame);
    outbox.take_bytes(5);
    table.blocks(large);
    let backlog = table.shard.counters.backlog.get();
    table.shard.evict(1);
    assert!(table.shard.counters.backlog.get() < backlog - 10 * frame as u64);
    assert_eq!(table.shard.counters.slow_evictions.get(), 1, "the small one is left alone");
    assert_eq!(offsets(&table.reads(small), OPS).len(), 5);
    table.publishes("ops", 16..=16);
    // What is written stays written: the third goes out whole, and the fourth is the first to be read again.
    table.shard.unblock(large);
    let outbox = &mut table.shard.connection(large).unwrap().outbox;
    assert_eq!(outbox.bytes(), frame - 5);
    assert_eq!(outbox.take_entry().len(), frame - 5);
    table.shard.resume_replays(large);
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(3)));
    table.shard.joined(joiner, page(Start::Resumed, ops(4..=16), Some(16), false));
    assert!(offsets(&table.reads(large), OPS).iter().copied().eq(4..=16));
    assert_eq!(table.shard.counters.backlog.get(), 0);
}

#[test]
fn a_replay_that_waits_is_let_go_of_too_and_a_page_that_is_on_its_way_is_not_taken_for_the_next() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=60);
    let last = offsets(&table.reads(slow), OPS).len() as u64;
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, ops(last + 1..=last + 5), Some(last + 5), true));
    let (stale, after) = table.joiner();
    assert_eq!(after, Some(at(last + 5)), "a small page: the next is asked for at once");
    table.blocks(slow);
    table.shard.evict(1);
    table.shard.joined(stale, page(Start::Resumed, ops(last + 6..=60), Some(60), false));
    assert_eq!(table.reads(slow), Vec::<String>::new(), "all of it was dropped");
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(last)));
    table.shard.joined(joiner, page(Start::Resumed, ops(last + 1..=60), Some(60), false));
    assert!(offsets(&table.reads(slow), OPS).iter().copied().eq(last + 1..=60));
}

#[test]
fn who_holds_too_much_that_cannot_be_had_again_is_closed() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.blocks(slow);
    for _ in 0..20 {
        table.client_sends(slow, r#"{"type":"ping"}"#);
    }
    table.shard.evict(1);
    assert_eq!(table.received(slow), ["bye", "close 4000"], "answers are not had again");
    assert_eq!(table.shard.counters.slow_closes.get(), 1);
}

#[test]
fn answers_push_messages_out_before_their_client_is_closed() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.blocks(slow);
    table.publishes("ops", 1..=100);
    for _ in 0..100 {
        table.now.mono_ms += 10;
        table.client_sends(slow, r#"{"type":"ping"}"#);
    }
    let received = table.reads(slow);
    assert_eq!(received.iter().filter(|text| *text == "pong").count(), 100);
    assert_eq!(table.joiner().1, Some(at(offsets(&received, OPS).len() as u64)));
}

#[test]
fn nothing_is_let_go_of_where_one_subscription_is_live_and_another_replays() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 2);
    table.client_sends(slow, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, vec![("other", 1), ("other", 2)], Some(2), true));
    assert_eq!(table.joiner(), (joiner, Some(at(2))));
    table.publishes("ops", 3..=4);
    table.blocks(slow);
    table.shard.evict_queued(slow, 0);
    table.shard.joined(joiner, page(Start::Resumed, ops(3..=4), Some(4), false));
    assert_eq!(offsets(&table.reads(slow), OPS), [3, 4]);
}

#[test]
fn what_an_ended_subscription_was_sent_is_not_let_go_of_for_the_others() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:ops", 0);
    table.live(slow, "collection:42:*", 0);
    table.publishes("ops", 1..=1);
    table.publishes("other", 2..=2);
    table.blocks(slow);
    table.client_sends(slow, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    table.shard.evict_queued(slow, 0);
    assert_eq!(table.reads(slow), ["collection:42:ops@1", "collection:42:other@2", "unsubscribed collection:42:*"]);
}

#[test]
fn a_page_that_its_client_does_not_read_is_thinned_out_and_read_again() {
    let mut table = Table::new();
    let slow = table.connect("slow");
    table.client_sends(slow, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, ops(1..=100), Some(100), true));
    table.blocks(slow);
    assert!(table.shard.connection(slow).unwrap().outbox.bytes() <= 4_096);
    let first = offsets(&table.reads(slow), OPS);
    let last = first.len() as u64;
    assert!(first.iter().copied().eq(1..=last) && last < 100, "{first:?}");
    assert_eq!(table.joiner().1, Some(at(last)));
}

/// The default families, where `collection` keeps messages and does this with a client that reads too slowly.
fn with_on_slow(on_slow: OnSlow) -> Table {
    let policies = Policies::default();
    let policy = |shape: &wire::FamilyShape, index| {
        let policy = *policies.policy(index);
        if shape.name == "collection" { FamilyPolicy { on_slow, ..policy } } else { policy }
    };
    let rows = policies.families().iter().map(|(index, shape)| (shape.clone(), policy(shape, index))).collect();
    Table::with(Policies::new(rows))
}

/// A message that alone is larger than an outbox may be.
fn large(offset: u64) -> Outgoing {
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let text = format!(r#"{{"type":"m","payload":"{}"}}"#, "x".repeat(20_000));
    let message = Message::parse(text.as_bytes()).unwrap();
    Outgoing::new(&message, &scope, Bytes::from_static(b"ops"), Timestamp(0), Some(at(offset)))
}

#[test]
fn a_message_larger_than_an_outbox_closes_nobody_who_reads() {
    for on_slow in [OnSlow::CatchUp, OnSlow::Latest, OnSlow::Close] {
        for is_live in [true, false] {
            let mut table = with_on_slow(on_slow);
            let client = table.connect("client");
            if is_live {
                table.live(client, "collection:42:*", 1);
                let message = large(2);
                let scope = message.scope().clone();
                table.shard.deliver(&scope, &[message]);
            } else {
                table.client_sends(client, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-1"}"#);
                let (joiner, _) = table.joiner();
                let joined = CatchUpPage { messages: vec![large(2)], ..page(Start::Resumed, vec![], Some(2), false) };
                table.shard.joined(joiner, joined);
                let subscribed = table.shard.connection(client).unwrap().outbox.take_entry();
                assert_eq!(frames(&subscribed), ["subscribed collection:42:*"]);
            }
            // The socket takes a part of it, several times. In between, replies and other messages are queued.
            for offset in 3..=5 {
                table.shard.connection(client).unwrap().outbox.take_bytes(100);
                table.blocks(client);
                table.client_sends(client, r#"{"type":"nothing"}"#);
                table.publishes("ops", offset..=offset);
                table.shard.unblock(client);
            }
            let what = format!("{on_slow:?}, live: {is_live}");
            assert_eq!(table.shard.counters.slow_closes.get(), 0, "{what}");
            let outbox = &mut table.shard.connection(client).unwrap().outbox;
            assert!(outbox.take_entry().len() > 19_000, "{what}: the rest of it");
            let received = table.received(client);
            assert_eq!(offsets(&received, OPS), [3, 4, 5], "{what}: {received:?}");
            assert_eq!(received.iter().filter(|text| text.starts_with("error")).count(), 3, "{what}: {received:?}");
        }
    }
}

/// A page that does not fit is thinned out, like live messages that do not fit.
#[test]
fn a_page_larger_than_an_outbox_is_conflated_where_the_newest_is_enough() {
    let mut table = with_on_slow(OnSlow::Latest);
    let client = table.connect("client");
    table.client_sends(client, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, ops(1..=200), Some(200), false));
    table.shard.connection(client).unwrap().outbox.take_bytes(10);
    table.blocks(client);
    assert_eq!(table.shard.counters.slow_closes.get(), 0);
    table.publishes("ops", 201..=202);
    table.shard.unblock(client);
    table.shard.connection(client).unwrap().outbox.take_entry(); // the rest of `subscribed`
    assert_eq!(table.received(client), Vec::<String>::new());
    assert_eq!(table.reads(client), Vec::<String>::new());
    assert_eq!(table.received(client), ["gap collection:42:*".to_owned(), format!("{OPS}@202")]);
}
