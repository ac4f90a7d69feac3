//! What a dead letter contains of a poison message, and what it must not contain.

use message_router::{FamilyPolicy, OnIsolation};
use records::DeadLetterQueueConfig;
use wire::{Families, FamilyShape, Message};

use super::*;

/// The dead letters of family `open` contain their messages; those of family `secret` do not.
fn dead_letters() -> (DeadLetters, Arc<DeadLetterQueue>, Families) {
    let family = |name: &str, redact_dead_letters| {
        let policy = FamilyPolicy { redact_dead_letters, ..FamilyPolicy::kept_for(60_000, 3, OnIsolation::Local) };
        (FamilyShape { name: name.into(), keyed: true }, policy)
    };
    let policies = Policies::new(vec![family("open", false), family("secret", true)]);
    let dead_letter_queue = Arc::new(DeadLetterQueue::new(DeadLetterQueueConfig { message_bytes_max: 1_000 }));
    let families = policies.families().clone();
    (
        DeadLetters::new(Arc::clone(&dead_letter_queue), InstanceId::parse("gw-1").unwrap(), policies),
        dead_letter_queue,
        families,
    )
}

/// A message that the parser quotes in its error.
const MESSAGE: &[u8] = br#"{"type":"t","pin-4711":1}"#;

fn found(scope: &str) -> DeadLetter {
    let (dead_letters, dead_letter_queue, families) = dead_letters();
    let poison = Poison::Bad(Message::parse(MESSAGE).unwrap_err());
    let scope = families.parse_scope(scope).unwrap();
    dead_letters.poison(&scope, "ops", Position::new(7, 42), Timestamp(1_000), MESSAGE, &poison);
    // Every client that resumes over the message finds it again.
    dead_letters.poison(&scope, "ops", Position::new(7, 42), Timestamp(1_000), MESSAGE, &poison);
    let dead_letter = dead_letter_queue.take().expect("it was posted");
    assert_eq!(dead_letter_queue.take(), None, "it is posted once");
    dead_letter
}

#[test]
fn a_poison_message_is_kept_with_its_place() {
    let dead_letter = found("acme/open:1");
    assert_eq!(&*dead_letter.dedup_key, "acme/open:1 7-42");
    assert_eq!(
        (dead_letter.reason, &*dead_letter.topic, dead_letter.position),
        (Reason::Poison, "ops", Some(Position::new(7, 42)))
    );
    assert_eq!((dead_letter.body, dead_letter.size), (Body::Message(MESSAGE.into()), MESSAGE.len()));
    assert!(dead_letter.detail.contains("pin-4711"), "{}", dead_letter.detail);
}

#[test]
fn a_redacted_family_shows_nothing_of_what_was_said() {
    let dead_letter = found("acme/secret:1");
    assert_eq!((dead_letter.body, dead_letter.size), (Body::Redacted, MESSAGE.len()));
    assert_eq!(dead_letter.detail, "not a message");
}
