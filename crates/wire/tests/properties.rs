//! Properties that hold for any input, tried with seeded random input. A failure names its seed. Nothing here depends
//! on time.

mod input;

use std::collections::HashMap;

use input::{SEEDS, bytes, channel, name, near_valid, text};
use test_support::Random;
use wire::{
    BadMessage, ClientBody, ClientFrame, Envelope, Families, FamilyShape, Filter, Message, Name, Opcode, Pattern,
    Position, SessionId, TenantId, Timestamp, WebSocketFrame,
};

#[test]
fn two_tenants_or_scopes_never_have_one_scope_text() {
    let families = Families::default();
    let mut owners: HashMap<String, (String, String)> = HashMap::new();
    for seed in SEEDS {
        let mut random = Random::new(seed);
        // Short names from few letters, so that scopes would collide often if they could.
        let tenant = TenantId::parse(&name(&mut random, 3)).unwrap();
        let channel = channel(&mut random, 3);
        let pattern = families.parse(&tenant, &channel).unwrap_or_else(|e| panic!("seed {seed}: {channel}: {e}"));
        let scope = &pattern.scope;
        let owner = (tenant.as_str().to_owned(), scope.name().to_owned());
        assert!(channel.starts_with(&owner.1), "seed {seed}: {channel} is not in {scope}");
        let other = owners.entry(scope.as_str().to_owned()).or_insert_with(|| owner.clone());
        assert_eq!(*other, owner, "seed {seed}: both are {scope}");
        assert!(!scope.as_str().contains(['{', '}']), "seed {seed}: {scope} would end its own hash tag");
        let back = families.parse_scope(scope.as_str()).unwrap_or_else(|| panic!("seed {seed}: {scope}"));
        assert_eq!((&back, back.tenant(), back.family()), (scope, tenant.as_str(), scope.family()), "seed {seed}");
    }
    assert!(owners.len() > 1_000, "the scopes were {} different ones", owners.len());
}

#[test]
fn a_pattern_is_read_back_from_what_it_is_written_as() {
    let (families, tenant) = (Families::default(), TenantId::default());
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let text = channel(&mut random, 12) + if random.below(3) == 0 { ":*" } else { "" };
        let Ok(pattern) = families.parse(&tenant, &text) else { panic!("seed {seed}: {text}") };
        assert_eq!(pattern.to_string(), text, "seed {seed}");
        assert_eq!(families.parse(&tenant, &pattern.to_string()), Ok(pattern), "seed {seed}");
    }
}

/// The reference for [`Filter::matches`]: compares segment by segment.
fn matches_by_segments(pattern: &Pattern, topic: &str) -> bool {
    let segments = |text: &str| -> Vec<String> {
        text.split(':').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
    };
    match &pattern.filter {
        Filter::Exact(wanted) => segments(wanted) == segments(topic),
        Filter::Below(head) => {
            let (head, topic) = (segments(head), segments(topic));
            topic.len() > head.len() && topic.starts_with(&head)
        }
    }
}

#[test]
fn a_filter_passes_what_is_below_it_by_segments() {
    let (families, tenant) = (Families::default(), TenantId::default());
    let (mut passed, mut held_back) = (0, 0);
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let mut topic = || {
            let names: Vec<String> = (0..random.below(4)).map(|_| name(&mut random, 2)).collect();
            names.join(":")
        };
        let (head, topic) = (topic(), topic());
        let colon = if head.is_empty() { "" } else { ":" };
        for text in [format!("system{colon}{head}"), format!("system{colon}{head}:*")] {
            let pattern = families.parse(&tenant, &text).unwrap();
            let passes = pattern.filter.matches(&topic);
            assert_eq!(passes, matches_by_segments(&pattern, &topic), "seed {seed}: {text} and {topic:?}");
            *(if passes { &mut passed } else { &mut held_back }) += 1;
        }
    }
    assert!(passed > 100 && held_back > 100, "{passed} passed, {held_back} did not");
}

#[test]
fn an_envelope_is_read_as_it_was_written() {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let first = Position::new(random.number(), random.number() >> 8);
        let time = Timestamp(random.number());
        let items: Vec<(String, Vec<u8>)> = (0..random.below(6))
            .map(|_| (if random.below(4) == 0 { String::new() } else { name(&mut random, 9) }, bytes(&mut random, 40)))
            .collect();
        let bytes = Envelope::write(first, time, items.iter().map(|(topic, bytes)| (&**topic, &**bytes)));
        let envelope = Envelope::parse(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((envelope.first, envelope.time), (first, time), "seed {seed}");
        let mut expected = first;
        let mut read = 0;
        for (item, (topic, bytes)) in envelope.items().zip(&items) {
            assert_eq!(item, Ok((expected, &**topic, &**bytes)), "seed {seed}");
            expected = expected.next();
            read += 1;
        }
        assert_eq!((read, envelope.items().count()), (items.len(), items.len()), "seed {seed}");
        // An envelope that is cut off anywhere gives the first messages unchanged, and never the last one.
        let cut = &bytes[..bytes.len() - 1 - random.below(bytes.len())];
        let Ok(envelope) = Envelope::parse(cut) else { continue };
        let whole: Vec<_> = envelope.items().map_while(Result::ok).map(|(_, topic, bytes)| (topic, bytes)).collect();
        assert!(whole.len() < items.len(), "seed {seed}: {} messages of a cut envelope", whole.len());
        for (read, (topic, bytes)) in whole.into_iter().zip(&items) {
            assert_eq!(read, (&**topic, &**bytes), "seed {seed}");
        }
    }
}

#[test]
fn positions_are_read_back_and_ordered_as_integers() {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let mut position = || Position::new(random.number(), random.number());
        let (a, b) = (position(), position());
        assert_eq!(a.to_string().parse(), Ok(a), "seed {seed}");
        assert_eq!(a.cmp(&b), (a.generation, a.offset).cmp(&(b.generation, b.offset)), "seed {seed}");
        assert!(a.next() >= a, "seed {seed}");
    }
}

#[test]
fn a_frame_says_its_own_length() {
    let edges = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];
    for len in edges.into_iter().chain(SEEDS.map(|seed| Random::new(seed).below(3_000))) {
        let frame = WebSocketFrame::new(Opcode::Binary, &vec![7; len]);
        let head = frame.bytes().len() - len;
        let said = match frame.bytes() {
            [0x82, short @ 0..=125, ..] => u64::from(*short),
            [0x82, 126, high, low, ..] => u64::from(u16::from_be_bytes([*high, *low])),
            [0x82, 127, rest @ ..] => u64::from_be_bytes(rest[..8].try_into().unwrap()),
            other => panic!("{:02x?}", &other[..2]),
        };
        assert_eq!(said, len as u64);
        assert_eq!(
            head,
            if len <= 125 {
                2
            } else if len <= 65_535 {
                4
            } else {
                10
            },
            "{len}: the shortest form"
        );
        assert_eq!(frame.payload(), vec![7; len]);
    }
}

/// Families with names of one letter, so that random text is sometimes a channel.
fn terse_families() -> Families {
    let shape = |name: &str, keyed| FamilyShape { name: name.into(), keyed };
    Families::new(vec![shape("u", true), shape("s", false)])
}

#[test]
fn no_parser_panics_and_what_it_takes_holds() {
    let (families, tenant) = (terse_families(), TenantId::default());
    let mut taken = [0; 7];
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let bytes = near_valid(&mut random);
        taken[0] += usize::from(ClientFrame::parse_binary(&bytes).map(|frame| can_be_delivered(&frame)).is_ok());
        taken[1] += usize::from(Message::parse(&bytes).map(|message| is_delivered(&message)).is_ok());
        taken[2] += Envelope::parse(&bytes).map_or(0, |envelope| envelope.items().count());
        let text = String::from_utf8_lossy(&bytes);
        taken[3] += usize::from(ClientFrame::parse(&text).map(|frame| can_be_delivered(&frame)).is_ok());
        taken[4] += usize::from(text.parse::<Position>().is_ok());
        if let Ok(pattern) = families.parse(&tenant, &text) {
            taken[5] += 1;
            assert_eq!(pattern.to_string(), text, "seed {seed}");
        }
        taken[6] += usize::from(Name::parse(&text).is_ok());
        let _ = (families.parse_scope(&text), SessionId::parse(&text));
    }
    assert!(taken.iter().all(|taken| *taken > 0), "every parser took something: {taken:?}");
}

/// A publish that the gateway accepts from a client can be delivered by every gateway.
fn can_be_delivered(frame: &ClientFrame<'_>) {
    let ClientBody::Publish { message, .. } = &frame.body else { return };
    let stored = message.to_bytes();
    let read = Message::parse(&stored).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&stored)));
    assert_eq!(read.is_binary(), message.binary.is_some());
    is_delivered(&read);
}

/// A receiver gets JSON, or a binary frame with a JSON header.
fn is_delivered(message: &Message<'_>) {
    let channel = Families::default().parse_channel(&TenantId::default(), "user:7:inbox").unwrap();
    let mut delivered = Vec::new();
    message.write(&channel.scope, channel.topic(), Timestamp(0), Some(Position::new(7, 2)), &mut delivered);
    let json = match &*delivered {
        [1, high, low, rest @ ..] => &rest[..usize::from(u16::from_be_bytes([*high, *low]))],
        text => text,
    };
    let value: HashMap<&str, &serde_json::value::RawValue> = serde_json::from_slice(json).unwrap();
    assert_eq!((value["channel"].get(), value["position"].get()), (r#""user:7:inbox""#, r#""7-2""#));
}

#[test]
fn every_type_a_client_may_give_is_one_that_receivers_get() {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let kind = if random.below(2) == 0 { name(&mut random, 5) } else { text(&mut random, 5) };
        let frame = serde_json::json!({"type": "publish", "channel": "system", "event": kind}).to_string();
        let stored = serde_json::json!({"type": kind}).to_string();
        let is_taken = ClientFrame::parse(&frame).is_ok();
        let is_read = !matches!(Message::parse(stored.as_bytes()), Err(BadMessage::Type));
        assert_eq!(is_taken, is_read, "seed {seed}: {kind:?}");
    }
}
