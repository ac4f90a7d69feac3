//! Tests of the checker itself: it finds every planted anomaly, and finds none in a correct history.

mod event_stream;
mod mutation;
mod world;

use std::collections::BTreeMap;

use history_checker::{Checker, Event, Record, Transport, Verdict};

use mutation::{MUTATIONS, Mutation};
use test_support::Random;

/// Number of correct histories of each sort, with and without loss.
const HISTORIES: u64 = 1_000;
/// Number of histories that are spoilt, each in every way.
const SPOILT: u64 = 100;
/// Each mutation must have been possible in this many of them, and must be found in all.
const INSTANCES_MIN: u64 = 20;

pub(crate) fn judge(records: &[Record]) -> Verdict {
    let mut checker = Checker::new();
    for record in records {
        // Through the text, as the program reads it.
        checker.feed_line(&serde_json::to_string(record).unwrap());
    }
    checker.conclude()
}

pub(crate) fn opened(client: &str, connection: u64, transport: Transport) -> Event {
    Event::Opened { client: client.into(), connection, instance: "gw-1".into(), reads_slowly: false, transport }
}

#[test]
fn correct_histories_are_clean() {
    let (mut deliveries, mut gaps, mut resumed, mut recoveries) = (0, 0, 0, 0);
    let (mut exact, mut repeating, mut not_found, mut event_streams) = (0, 0, 0, 0);
    for seed in 0..2 * HISTORIES {
        let verdict = judge(&world::history(seed, seed % 2 == 0));
        assert!(verdict.is_clean(), "seed {seed}: {verdict}");
        deliveries += verdict.tally.deliveries;
        gaps += verdict.tally.gaps.values().sum::<u64>();
        resumed += verdict.tally.resumed;
        recoveries += verdict.recovery_us.len();
        exact += verdict.tally.restored_exactly;
        repeating += verdict.tally.restored_with_repeats;
        not_found += verdict.tally.not_found;
        event_streams += verdict.tally.event_streams;
    }
    // A clean verdict over nothing would prove nothing.
    assert!(deliveries > 50_000 && gaps > 1_000 && resumed > 2_000, "{deliveries} {gaps} {resumed}");
    assert!(recoveries > 3_000, "{recoveries}");
    assert!(exact > 500 && repeating > 500 && not_found > 200, "{exact} {repeating} {not_found}");
    assert!(event_streams > 4_000, "{event_streams}");
}

#[test]
fn every_mutation_is_caught() {
    let mut instances: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SPOILT {
        let loses = seed % 2 == 0;
        let history = world::history(seed, loses);
        for Mutation { name, kinds, mutate } in MUTATIONS {
            let Some(mutant) = mutate(&history, loses, &mut Random::new(seed + 1)) else { continue };
            *instances.entry(name).or_default() += 1;
            let verdict = judge(&mutant);
            assert!(
                kinds.iter().any(|kind| verdict.count(*kind) > 0),
                "seed {seed}: {name} must show as one of {kinds:?}: {verdict}"
            );
        }
    }
    for Mutation { name, .. } in MUTATIONS {
        let count = instances.get(name).copied().unwrap_or(0);
        println!("{name}: caught in {count} histories");
        assert!(count >= INSTANCES_MIN, "{name} found a place in {count} histories only");
    }
}

/// A message within one instance, followed by these frames.
fn judge_local(instance: &str, behind: &[&str]) -> Verdict {
    let opened = format!(r#"{{"at_us":1,"event":"opened","client":"c","connection":1,"instance":"{instance}"}}"#);
    let received = |text: &str| {
        let event = history_checker::Event::Received { connection: 1, text: text.to_owned() };
        serde_json::to_string(&Record { at_us: 9, event }).unwrap()
    };
    let mut lines = vec![
        r#"{"at_us":0,"event":"run","fault":"x","loses":false,"keyless":[],"no_history":[],"local":["user"]}"#.to_owned(),
        opened,
        r#"{"at_us":2,"event":"sent","connection":1,"text":"{\"type\":\"subscribe\",\"channel\":\"user:a\"}"}"#.to_owned(),
        received(r#"{"type":"subscribed","channel":"user:a","payload":{"resumed":false,"degraded":false},"position":"7-0"}"#),
        r#"{"at_us":3,"event":"fault_began"}"#.to_owned(),
        r#"{"at_us":4,"event":"publish","value":"v1","channel":"user:a","via":"gw-1","retry":"no"}"#.to_owned(),
        r#"{"at_us":5,"event":"answered","value":"v1","answer":{"frame":"{\"type\":\"ack\",\"channel\":\"user:a\",\"payload\":{\"level\":\"local\"}}"}}"#.to_owned(),
    ];
    lines.extend(behind.iter().map(|text| received(text)));
    let rest = [
        r#"{"at_us":10,"event":"fault_ended","proof":"x"}"#.to_owned(),
        r#"{"at_us":11,"event":"quiesced"}"#.to_owned(),
        r#"{"at_us":12,"event":"publish","value":"v2","channel":"user:a","via":null,"retry":"no"}"#.to_owned(),
        r#"{"at_us":13,"event":"answered","value":"v2","answer":{"reply":"7-1"}}"#.to_owned(),
        received(r#"{"type":"n","channel":"user:a","payload":{"v":"v2"},"timestamp":"x","position":"7-1"}"#),
        r#"{"at_us":14,"event":"end"}"#.to_owned(),
    ];
    lines.extend(rest);
    let mut checker = Checker::new();
    lines.iter().for_each(|line| checker.feed_line(line));
    checker.conclude()
}

#[test]
fn a_message_within_one_instance_is_followed_by_a_gap() {
    use history_checker::AnomalyKind::{Divergent, Duplicate, FalseGap, Phantom, SilentGap};
    let message = r#"{"type":"n","channel":"user:a","payload":{"v":"v1"},"timestamp":"x"}"#;
    let stored = r#"{"type":"n","channel":"user:a","payload":{"v":"v1"},"timestamp":"x","position":"7-1"}"#;
    let isolated = r#"{"type":"gap","channel":"user:a","payload":{"after":"7-0","upto":"7-0","reason":"isolated","certain":false}}"#;
    let other = r#"{"type":"gap","channel":"user:a","payload":{"after":"7-0","upto":"7-0","reason":"failover","certain":false}}"#;
    let clean = judge_local("gw-1", &[message, isolated]);
    assert!(clean.is_clean(), "{clean}");
    assert_eq!(judge_local("gw-1", &[message]).count(SilentGap), 1);
    assert_eq!(judge_local("gw-1", &[message, message, isolated]).count(Duplicate), 1);
    assert_eq!(judge_local("gw-1", &[message, other, isolated]).count(FalseGap), 1);
    assert_eq!(judge_local("gw-2", &[message, isolated]).count(Phantom), 1);
    assert_eq!(judge_local("gw-1", &[stored]).count(Divergent), 1);
}

/// Two connections of one session. The second one is opened before or after the end of the first one, and this code
/// closes the one that is judged.
fn judge_two(code: u16, is_over: bool) -> Verdict {
    use history_checker::Event::{Closed, Sent};
    let hello = |connection: u64| Sent {
        connection,
        text: r#"{"type":"hello","payload":{"token":"t","session_id":"5e","channels":[]}}"#.into(),
    };
    let opened = |connection: u64| opened(&format!("c{connection}"), connection, Transport::WebSocket);
    let closed = |connection: u64, code| Closed { connection, why: "x".into(), intended: false, code };
    let mut events = vec![opened(1), hello(1)];
    match is_over {
        false => events.extend([opened(2), hello(2), closed(1, Some(code)), closed(2, None)]),
        true => events.extend([closed(1, None), opened(2), hello(2), closed(2, Some(code))]),
    }
    let mut checker = Checker::new();
    events.into_iter().for_each(|event| checker.feed(&Record { at_us: 0, event }));
    checker.conclude()
}

#[test]
fn a_terminal_close_is_right_only_for_a_replaced_connection() {
    use history_checker::AnomalyKind::TerminalCode;
    assert_eq!(judge_two(4504, false).count(TerminalCode), 0);
    assert_eq!(judge_two(4504, true).count(TerminalCode), 1, "its other connection was over");
    assert_eq!(judge_two(4500, false).count(TerminalCode), 1);
    for code in [1001, 1006, 1011, 1012, 1013, 4000, 4001, 4005] {
        assert_eq!(judge_two(code, true).count(TerminalCode), 0, "{code}");
    }
}

/// A client that reads too slowly, with these frames after its subscription is confirmed.
fn judge_slow(family: &str, reads_slowly: bool, frames: &[&str]) -> Verdict {
    let received = |text: &str| {
        let event = history_checker::Event::Received { connection: 1, text: text.to_owned() };
        serde_json::to_string(&Record { at_us: 9, event }).unwrap()
    };
    let publish = |n: u32, topic: &str| {
        [
            format!(
                r#"{{"at_us":3,"event":"publish","value":"v{n}","channel":"{family}:a:{topic}","via":null,"retry":"no"}}"#
            ),
            format!(r#"{{"at_us":3,"event":"answered","value":"v{n}","answer":{{"reply":"7-{n}"}}}}"#),
        ]
    };
    let asked = format!(r#"{{\"type\":\"subscribe\",\"channel\":\"{family}:a:*\"}}"#);
    let mut lines = vec![
        r#"{"at_us":0,"event":"run","fault":"x","loses":false,"keyless":[],"no_history":[],"local":[],"newest":["ticker"]}"#.to_owned(),
        format!(r#"{{"at_us":1,"event":"opened","client":"c","connection":1,"instance":"gw-1","reads_slowly":{reads_slowly}}}"#),
        format!(r#"{{"at_us":2,"event":"sent","connection":1,"text":"{asked}"}}"#),
        received(&format!(r#"{{"type":"subscribed","channel":"{family}:a:*","payload":{{"resumed":false,"degraded":false}},"position":"7-0"}}"#)),
    ];
    lines.extend([publish(1, "x"), publish(2, "y"), publish(3, "x")].concat());
    lines.push(r#"{"at_us":3,"event":"quiesced"}"#.to_owned());
    lines.extend(publish(4, "z"));
    lines.extend(frames.iter().map(|text| received(&text.replace("FAMILY", family))));
    lines.push(r#"{"at_us":14,"event":"end"}"#.to_owned());
    let mut checker = Checker::new();
    lines.iter().for_each(|line| checker.feed_line(line));
    checker.conclude()
}

#[test]
fn a_slow_client_gets_the_newest_of_each_topic_in_families_that_say_so() {
    use history_checker::AnomalyKind::{FalseGap, SilentGap};
    let second = r#"{"type":"n","channel":"FAMILY:a:y","payload":{"v":"v2"},"timestamp":"x","position":"7-2"}"#;
    let third = r#"{"type":"n","channel":"FAMILY:a:x","payload":{"v":"v3"},"timestamp":"x","position":"7-3"}"#;
    let last = r#"{"type":"n","channel":"FAMILY:a:z","payload":{"v":"v4"},"timestamp":"x","position":"7-4"}"#;
    let gap = r#"{"type":"gap","channel":"FAMILY:a:*","payload":{"after":"7-0","upto":"7-1","reason":"slow","certain":true}}"#;
    let wide = r#"{"type":"gap","channel":"FAMILY:a:*","payload":{"after":"7-0","upto":"7-2","reason":"slow","certain":true}}"#;
    let right = judge_slow("ticker", true, &[gap, second, third, last]);
    assert!(right.is_clean(), "{right}");
    assert_eq!(judge_slow("collection", true, &[gap, second, third, last]).count(FalseGap), 1);
    assert_eq!(judge_slow("ticker", false, &[gap, second, third, last]).count(FalseGap), 1, "it is not slow");
    assert_eq!(judge_slow("ticker", true, &[second, third, last]).count(SilentGap), 1);
    assert_eq!(judge_slow("ticker", true, &[wide, third, last]).count(SilentGap), 1, "the newest of y was left out");
}

#[test]
fn a_subscription_that_was_lost_and_never_confirmed_again_begins_anew() {
    use history_checker::Event::{Closed, End, FaultBegan, Quiesced, Received, Run, Sent};
    let named = |connection: u64, rest: &str| Sent {
        connection,
        text: format!(r#"{{"type":"hello","payload":{{"token":"t","restore":true{rest}}}}}"#),
    };
    let opened = |connection: u64| opened("c", connection, Transport::WebSocket);
    let closed = |connection: u64| Closed { connection, why: "x".into(), intended: true, code: None };
    let received = |connection: u64, text: &str| Received { connection, text: text.into() };
    let subscribed = |connection: u64, rest: &str| {
        received(connection, &format!(r#"{{"type":"subscribed","channel":"collection:1:*","payload":{rest}}}"#))
    };
    let run = Run {
        fault: "x".into(),
        loses: false,
        keyless: vec![],
        no_history: vec![],
        local: vec![],
        newest: vec![],
        forgets: true,
    };
    let judge = |found: &str| {
        let events = [
            run.clone(),
            opened(1),
            named(1, r#","channels":[{"channel":"collection:1:*"}]"#),
            subscribed(1, r#"{"resumed":false,"degraded":false},"position":"7-3""#),
            FaultBegan,
            closed(1),
            opened(2),
            named(2, r#","session_id":"5e""#),
            received(2, &format!(r#"{{"type":"restored","payload":{found}}}"#)),
            Sent { connection: 2, text: r#"{"type":"subscribe","channel":"collection:1:*"}"#.into() },
            subscribed(2, r#"{"resumed":false,"degraded":true}"#),
            closed(2),
            opened(3),
            named(3, r#","session_id":"5e""#),
            received(3, r#"{"type":"restored","payload":{"found":true,"repeats":true,"channels":["collection:1:*"]}}"#),
            subscribed(3, r#"{"resumed":false,"degraded":false},"position":"7-9""#),
            Quiesced,
            End,
        ];
        let mut checker = Checker::new();
        events.into_iter().for_each(|event| checker.feed(&Record { at_us: 0, event }));
        checker.conclude()
    };
    use history_checker::AnomalyKind::WrongResume;
    assert_eq!(judge(r#"{"found":false}"#).count(WrongResume), 0, "it begins where that subscription does");
    let kept = judge(r#"{"found":true,"repeats":true,"channels":["collection:1:*"]}"#);
    assert_eq!(kept.count(WrongResume), 1, "not resumed, but no gap came");
}

#[test]
fn a_client_that_is_not_found_and_requests_nothing_proves_nothing() {
    let mut history = world::history(0, true);
    let at = history.len() - 1;
    let record = |event| Record { at_us: 0, event };
    let hello = r#"{"type":"hello","payload":{"token":"t","session_id":"5e","restore":true}}"#;
    let restored = r#"{"type":"restored","payload":{"found":false}}"#;
    history.splice(
        at..at,
        [
            record(opened("idle", 999, Transport::WebSocket)),
            record(history_checker::Event::Sent { connection: 999, text: hello.into() }),
            record(history_checker::Event::Received { connection: 999, text: restored.into() }),
        ],
    );
    assert!(judge(&history).incomplete[0].contains("requested nothing"));
}

#[test]
fn a_log_that_breaks_off_proves_nothing() {
    let mut history = world::history(1, false);
    history.pop();
    assert!(!judge(&history).incomplete.is_empty());
    assert!(!judge(&[]).is_clean());
    let mut checker = Checker::new();
    checker.feed_line("{");
    assert!(checker.conclude().incomplete[0].starts_with("line 1"));
}
