//! Slow clients of a family that wants the newest of each topic alone, and keeps no history.

use message_router::{FamilyPolicy, OnIsolation, OnSlow};

use super::*;

fn table() -> Table {
    let kept = FamilyPolicy::kept_for(1_000, 3, OnIsolation::ReadOnly);
    let conflation = FamilyPolicy { history_entries_max: 0, on_slow: OnSlow::Latest, ..kept };
    let policy = |name: &str| if name == "collection" { conflation } else { kept };
    let families = Families::default();
    Table::with(Policies::new(families.iter().map(|(_, shape)| (shape.clone(), policy(&shape.name))).collect()))
}

impl Table {
    /// Everything that waits, as the client reads it; its socket takes all of it.
    fn drains(&mut self, slot: Slot) -> Vec<String> {
        self.shard.unblock(slot);
        let mut all = self.sent(slot);
        self.shard.resume_replays(slot);
        all.extend(self.sent(slot));
        all
    }

    /// Messages as `topic@offset`, gaps as `after..upto`.
    fn sent(&mut self, slot: Slot) -> Vec<String> {
        let mut sent = Vec::new();
        let outbox = &mut self.shard.connection(slot).unwrap().outbox;
        while !outbox.is_empty() {
            let bytes = outbox.take_entry();
            let header = if bytes[1] == 126 { 4 } else { 2 };
            let Ok(frame) = serde_json::from_slice::<Value>(&bytes[header..]) else { continue };
            let offset = |value: &Value| value.as_str().map_or("", |text| text.split_once('-').unwrap().1).to_owned();
            sent.push(match frame["type"].as_str().unwrap() {
                "gap" => {
                    assert_eq!(frame["payload"]["reason"], "slow");
                    assert_eq!(frame["payload"]["certain"], true);
                    format!("{}..{}", offset(&frame["payload"]["after"]), offset(&frame["payload"]["upto"]))
                }
                "m" => {
                    let topic = frame["channel"].as_str().unwrap().rsplit_once(':').unwrap().1;
                    format!("{topic}@{}", offset(&frame["position"]))
                }
                other => other.to_owned(),
            });
        }
        sent
    }

    /// Publishes `x` until one of them does not fit, and says which.
    fn fill(&mut self, slot: Slot) -> u64 {
        self.shard.block(slot, self.now);
        let mut offset = 0;
        while !self.shard.connection(slot).unwrap().is_conflating {
            offset += 1;
            self.publish("collection:42", "x", offset);
        }
        offset
    }
}

#[test]
fn a_slow_client_is_given_the_newest_of_each_topic_and_told_exactly_what_it_has_missed() {
    let mut table = table();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    let first = table.fill(slow);
    for (topic, n) in [("y", 1), ("x", 2), ("z", 3), ("x", 4), ("x", 5)] {
        table.publish("collection:42", topic, first + n);
    }
    let sent = table.drains(slow);
    let (queued, rest) = sent.split_at(first as usize - 1);
    assert!((1..).zip(queued).all(|(offset, text)| *text == format!("x@{offset}")), "{queued:?}");
    let expected = [
        format!("{}..{first}", first - 1),
        format!("y@{}", first + 1),
        format!("{}..{}", first + 1, first + 2),
        format!("z@{}", first + 3),
        format!("{}..{}", first + 3, first + 4),
        format!("x@{}", first + 5),
    ];
    assert_eq!(rest, expected);
    assert_eq!(table.shard.counters.superseded.get(), 3);
    table.publish("collection:42", "x", first + 6);
    assert_eq!(table.drains(slow), [format!("x@{}", first + 6)], "it is live again");
    assert_eq!((table.shard.counters.backlog.get(), table.shard.counters.slow_clients.get()), (0, 0));
}

#[test]
fn memory_for_a_client_that_never_reads_does_not_grow() {
    let mut table = table();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    let first = table.fill(slow);
    for n in 1..=5_000 {
        table.publish("collection:42", ["x", "y", "z"][n as usize % 3], first + n);
    }
    assert!(table.shard.counters.backlog.get() < 2 * 4_096, "{}", table.shard.counters.backlog.get());
    assert_eq!(table.shard.counters.superseded.get(), 5_001 - 3);
    assert!(table.shard.remove(slow).is_some());
    assert_eq!(table.shard.counters.backlog.get(), 0);
}

#[test]
fn no_position_is_told_ahead_of_what_is_kept() {
    let mut table = table();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    table.fill(slow);
    let connection = table.shard.connection(slow).unwrap();
    (connection.ping_ms, connection.wake_ms) = (table.now.mono_ms, 0);
    table.shard.wake(slow, table.now);
    assert!(!table.drains(slow).contains(&"position".to_owned()));
}

#[test]
fn over_the_budget_what_is_queued_is_folded_and_nothing_is_missing_in_silence() {
    let mut table = table();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:*", 0);
    let first = table.fill(slow);
    table.publish("collection:42", "y", first + 1);
    table.publish("collection:42", "x", first + 2);
    table.shard.evict(1);
    assert_eq!(table.shard.counters.slow_closes.get(), 0);
    let (y, x) = (format!("y@{}", first + 1), format!("x@{}", first + 2));
    assert_eq!(table.drains(slow), [format!("0..{first}"), y, x]);
    assert_eq!(table.shard.counters.backlog.get(), 0);
}

#[test]
fn a_topic_that_nobody_holds_any_more_is_not_kept() {
    let mut table = table();
    let slow = table.connect("slow");
    table.live(slow, "collection:42:x", 0);
    table.live(slow, "collection:42:y", 0);
    let first = table.fill(slow);
    table.publish("collection:42", "y", first + 1);
    table.client_sends(slow, r#"{"type":"unsubscribe","channel":"collection:42:y"}"#);
    let sent = table.drains(slow);
    assert!(!sent.iter().any(|text| text.starts_with("y@")), "{sent:?}");
    assert!(sent.contains(&format!("x@{first}")), "{sent:?}");
    assert_eq!(table.shard.counters.backlog.get(), 0, "dropped messages are no longer counted");
}
