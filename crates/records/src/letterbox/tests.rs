//! The box is bounded, keeps order, and takes each mark once.

use bytes::Bytes;
use wire::{Families, InstanceId, Position, Timestamp};

use super::*;
use crate::letter::Reason;

fn letter(number: u64, message: Bytes) -> Letter {
    Letter {
        mark: format!("mark {number}").into(),
        reason: Reason::Poison,
        instance: InstanceId::parse("gw-1").unwrap(),
        scope: Families::default().parse_scope("acme/collection:1").unwrap(),
        topic: "ops".into(),
        user: None,
        position: Some(Position::new(7, number)),
        time: Timestamp(1_000),
        detail: "not a message".into(),
        size: message.len(),
        body: Body::Message(message),
    }
}

fn letterbox(message_bytes_max: usize) -> Letterbox {
    Letterbox::new(LetterboxConfig { message_bytes_max })
}

fn dropped(letterbox: &Letterbox) -> u64 {
    letterbox.counts().dropped.load(Ordering::Relaxed)
}

#[tokio::test]
async fn letters_come_out_in_order_and_stay_until_they_are_done() {
    let letterbox = letterbox(100);
    assert!(letterbox.post(letter(1, "a".into())));
    assert!(letterbox.post(letter(2, "b".into())));
    assert_eq!(letterbox.next().await.mark.as_ref(), "mark 1");
    assert_eq!(letterbox.next().await.mark.as_ref(), "mark 1");
    letterbox.take();
    assert_eq!(letterbox.next().await.mark.as_ref(), "mark 2");
    letterbox.take();
    assert_eq!(letterbox.oldest(), None);
    assert_eq!(letterbox.lock().bytes, 0);
}

/// A stored poison message is met again by every client that resumes over it.
#[test]
fn the_same_mark_is_taken_once_and_remembered_within_bounds() {
    let letterbox = letterbox(100);
    assert!(letterbox.post(letter(0, "a".into())));
    assert!(!letterbox.post(letter(0, "a".into())));
    letterbox.take();
    assert!(!letterbox.post(letter(0, "a".into())), "written is not forgotten");
    for number in 1..=MARKS_MAX as u64 {
        assert!(letterbox.post(letter(number, "a".into())));
        letterbox.take();
    }
    assert!(letterbox.post(letter(0, "a".into())), "the oldest mark is forgotten");
    let queue = letterbox.lock();
    assert_eq!((queue.marks.len(), queue.recent.len()), (MARKS_MAX, MARKS_MAX));
    drop(queue);
    assert_eq!(dropped(&letterbox), 0);
}

#[test]
fn a_long_message_is_told_of_and_not_kept() {
    let letterbox = letterbox(4);
    assert_eq!(letterbox.body(b"long"), Body::Message("long".into()));
    assert_eq!(letterbox.body(b"longer"), Body::TooBig);
}

#[test]
fn what_does_not_fit_is_counted_and_may_come_again() {
    let message = Bytes::from(vec![b'x'; 1024 * 1024]);
    let letterbox = letterbox(message.len());
    let taken = (0..8).filter(|number| letterbox.post(letter(*number, message.clone()))).count();
    assert_eq!(taken, 3, "3 MiB and what is known of each fit into 4 MiB, a fourth does not");
    assert_eq!(dropped(&letterbox), 5);
    assert_eq!(letterbox.oldest().unwrap().mark.as_ref(), "mark 0", "the oldest stay");
    letterbox.take();
    assert!(letterbox.post(letter(7, message)), "it was not written, so it is not known");
}
