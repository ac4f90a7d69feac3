//! What a client of an event stream may do, and what the log must show of it.

use history_checker::AnomalyKind::{Duplicate, LostTail, SilentGap, TerminalCode, WrongResume};
use history_checker::{Checker, Event, PublishAnswer, Record, Retry, Transport, Verdict};

use crate::opened;

fn received(connection: u64, text: &str) -> Event {
    Event::Received { connection, text: text.into() }
}

fn requested(connection: u64, last_event_id: Option<&str>) -> Event {
    let target = "/sse?channels=user:a".into();
    Event::Requested { connection, target, last_event_id: last_event_id.map(str::to_owned) }
}

/// The message `v1` at 7-1, `v2` at 7-2 and so on.
fn message(n: u32) -> String {
    format!(
        "id: 5e;user:a/7-{n}\ndata: {{\"type\":\"n\",\"channel\":\"user:a\",\"payload\":{{\"v\":\"v{n}\"}},\"timestamp\":\"x\",\"position\":\"7-{n}\"}}\n\n"
    )
}

fn subscribed(position: &str, resumed: bool, id: &str) -> String {
    format!(
        "{id}event: subscribed\ndata: {{\"type\":\"subscribed\",\"channel\":\"user:a\",\"payload\":{{\"resumed\":{resumed},\"degraded\":false}},\"position\":\"{position}\"}}\n\n"
    )
}

fn publish(n: u32) -> [Event; 2] {
    let value = format!("v{n}");
    [
        Event::Publish { value: value.clone(), channel: "user:a".into(), via: None, retry: Retry::No },
        Event::Answered { value, answer: PublishAnswer::Reply(format!("7-{n}")) },
    ]
}

/// Three messages. The first connection ends after these events; the second one sends back this id.
fn judge(before: &[&str], id: Option<&str>, after: &[&str]) -> Verdict {
    let run = r#"{"at_us":0,"event":"run","fault":"x","loses":false,"keyless":[],"no_history":[],"local":[]}"#;
    let mut events = vec![opened("c", 1, Transport::EventStream), requested(1, None)];
    events.push(received(1, &subscribed("7-0", false, "id: 5e;user:a/7-0\n")));
    events.extend((1..=2).flat_map(publish));
    events.extend(before.iter().map(|text| received(1, text)));
    events.push(Event::Closed { connection: 1, why: "x".into(), intended: false, code: None });
    events.extend([opened("c", 2, Transport::EventStream), requested(2, id)]);
    events.push(Event::Quiesced);
    events.extend(publish(3));
    events.extend(after.iter().map(|text| received(2, text)));
    events.push(Event::End);
    let mut checker = Checker::new();
    checker.feed_line(run);
    events.into_iter().for_each(|event| checker.feed(&Record { at_us: 9, event }));
    checker.conclude()
}

#[test]
fn a_client_resumes_from_the_last_event_that_was_complete() {
    let (one, two, three) = (message(1), message(2), message(3));
    let id = "5e;user:a/7-1";
    let resumed = subscribed("7-1", true, "");
    let clean = judge(&[&one], Some(id), &[&resumed, &two, &three]);
    assert!(clean.is_clean(), "{clean}");
    assert_eq!((clean.tally.event_streams, clean.tally.resumed), (2, 1));
    // The blank line of the second message is missing: its id does not count.
    let cut = judge(&[&one, &two[..two.len() - 1]], Some(id), &[&resumed, &two, &three]);
    assert!(cut.is_clean(), "{cut}");
    let skipped = judge(&[&one, &two[..two.len() - 1]], Some(id), &[&subscribed("7-2", true, ""), &three]);
    assert!(skipped.count(WrongResume) > 0 && skipped.count(SilentGap) > 0, "{skipped}");
    let again = judge(&[&one, &two], Some("5e;user:a/7-2"), &[&subscribed("7-2", true, ""), &two, &three]);
    assert_eq!(again.count(Duplicate), 1, "{again}");
    let wrong = judge(&[&one, &two[..two.len() - 1]], Some("5e;user:a/7-2"), &[&subscribed("7-2", true, ""), &three]);
    assert!(wrong.incomplete[0].contains("not its last one"), "{wrong}");
}

#[test]
fn an_id_tells_neither_more_nor_less_than_its_client_has() {
    let (one, two, three) = (message(1), message(2), message(3));
    let ahead = one.replacen("/7-1", "/7-2", 1);
    let verdict = judge(&[&ahead], Some("5e;user:a/7-2"), &[&subscribed("7-2", true, ""), &three]);
    assert!(verdict.count(WrongResume) > 0 && verdict.count(SilentGap) == 1, "{verdict}");
    let behind = two.replacen("id: ", "x: ", 1);
    let verdict = judge(&[&one, &behind], Some("5e;user:a/7-1"), &[&subscribed("7-1", true, ""), &two, &three]);
    assert!(verdict.count(WrongResume) > 0 && verdict.count(Duplicate) == 1, "{verdict}");
}

/// The id of a `subscribed` that does not resume would pass over the gap that comes after it.
#[test]
fn a_gap_that_was_cut_is_announced_again() {
    let (one, three) = (message(1), message(3));
    let afresh = subscribed("7-2", false, "id: 5e;user:a/7-2\n");
    let verdict = judge(&[&one], Some("5e;user:a/7-1"), &[&afresh, &three]);
    assert!(verdict.count(WrongResume) > 0 && verdict.count(SilentGap) > 0, "{verdict}");
}

#[test]
fn a_status_that_ends_an_event_stream_is_terminal_if_the_client_is_blamed() {
    let refused = |status| {
        let events =
            [opened("c", 1, Transport::EventStream), requested(1, None), Event::Refused { connection: 1, status }];
        let mut checker = Checker::new();
        events.into_iter().for_each(|event| checker.feed(&Record { at_us: 0, event }));
        checker.conclude()
    };
    assert_eq!(refused(403).count(TerminalCode), 1);
    assert_eq!(refused(503).count(TerminalCode), 0);
    assert_eq!(refused(503).count(LostTail), 1, "it has no subscription at the end");
}
