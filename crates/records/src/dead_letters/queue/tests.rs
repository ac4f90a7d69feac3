//! The queue is bounded, keeps its order, and takes each key once.

use bytes::Bytes;
use wire::{Families, InstanceId, Position, Timestamp};

use super::*;
use crate::dead_letters::Reason;

fn dead_letter(number: u64, message: Bytes) -> DeadLetter {
    DeadLetter {
        dedup_key: format!("key {number}").into(),
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

fn dead_letter_queue(message_bytes_max: usize) -> DeadLetterQueue {
    DeadLetterQueue::new(DeadLetterQueueConfig { message_bytes_max })
}

fn dropped(dead_letter_queue: &DeadLetterQueue) -> u64 {
    dead_letter_queue.counts().dropped.load(Ordering::Relaxed)
}

#[tokio::test]
async fn dead_letters_come_out_in_order_and_stay_until_they_are_done() {
    let dead_letter_queue = dead_letter_queue(100);
    assert!(dead_letter_queue.post(dead_letter(1, "a".into())));
    assert!(dead_letter_queue.post(dead_letter(2, "b".into())));
    assert_eq!(dead_letter_queue.next().await.dedup_key.as_ref(), "key 1");
    assert_eq!(dead_letter_queue.next().await.dedup_key.as_ref(), "key 1");
    dead_letter_queue.take();
    assert_eq!(dead_letter_queue.next().await.dedup_key.as_ref(), "key 2");
    dead_letter_queue.take();
    assert_eq!(dead_letter_queue.oldest(), None);
    assert_eq!(dead_letter_queue.lock().bytes, 0);
}

/// Every client that resumes over a stored poison message finds it again.
#[test]
fn the_same_dedup_key_is_taken_once_and_remembered_within_bounds() {
    let dead_letter_queue = dead_letter_queue(100);
    assert!(dead_letter_queue.post(dead_letter(0, "a".into())));
    assert!(!dead_letter_queue.post(dead_letter(0, "a".into())));
    dead_letter_queue.take();
    assert!(!dead_letter_queue.post(dead_letter(0, "a".into())), "written is not forgotten");
    for number in 1..=DEDUP_KEYS_MAX as u64 {
        assert!(dead_letter_queue.post(dead_letter(number, "a".into())));
        dead_letter_queue.take();
    }
    assert!(dead_letter_queue.post(dead_letter(0, "a".into())), "the oldest key is forgotten");
    let queue = dead_letter_queue.lock();
    assert_eq!((queue.dedup_keys.len(), queue.recent.len()), (DEDUP_KEYS_MAX, DEDUP_KEYS_MAX));
    drop(queue);
    assert_eq!(dropped(&dead_letter_queue), 0);
}

#[test]
fn a_long_message_is_counted_and_not_kept() {
    let dead_letter_queue = dead_letter_queue(4);
    assert_eq!(dead_letter_queue.body(b"long"), Body::Message("long".into()));
    assert_eq!(dead_letter_queue.body(b"longer"), Body::TooBig);
}

#[test]
fn a_dead_letter_without_room_is_counted_and_may_be_posted_again() {
    let message = Bytes::from(vec![b'x'; 1024 * 1024]);
    let dead_letter_queue = dead_letter_queue(message.len());
    let taken = (0..8).filter(|number| dead_letter_queue.post(dead_letter(*number, message.clone()))).count();
    assert_eq!(taken, 3, "3 MiB and what is known of each fit into 4 MiB, a fourth does not");
    assert_eq!(dropped(&dead_letter_queue), 5);
    assert_eq!(dead_letter_queue.oldest().unwrap().dedup_key.as_ref(), "key 0", "the oldest stay");
    dead_letter_queue.take();
    assert!(dead_letter_queue.post(dead_letter(7, message)), "it was not written, so it is not known");
}
