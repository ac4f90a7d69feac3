//! PURE. One read of history answers many clients. Each entry is encoded once, when a client first needs it.

use std::sync::Arc;

use message_router::{Entries, Entry};

use crate::protocol::outgoing::Outgoing;

/// The frames of the read that was answered last. It exists for one turn of the pump, because all clients of a read
/// are answered in one turn, one after the other.
#[derive(Debug, Default)]
pub(super) struct PageEncoder {
    read: Option<Arc<[Entry]>>,
    /// By index in `read`: `None` if not encoded yet, `Some(None)` for a poison message, or the frame.
    frames: Vec<Option<Option<Outgoing>>>,
}

impl PageEncoder {
    /// Returns the frames of `entries`, without those that cannot be encoded.
    pub(super) fn encode(&mut self, entries: &Entries, encode: impl Fn(&Entry) -> Option<Outgoing>) -> Vec<Outgoing> {
        let Some((read, begin)) = entries.read() else { return Vec::new() };
        if !self.read.as_ref().is_some_and(|known| Arc::ptr_eq(known, read)) {
            self.read = Some(Arc::clone(read));
            self.frames.clear();
            self.frames.resize_with(read.len(), || None);
        }
        let frames = entries.iter().zip(&mut self.frames[begin..]);
        frames.filter_map(|(entry, frame)| frame.get_or_insert_with(|| encode(entry)).clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use message_router::{Command, Event, History, Joiner, Output, Router, RouterConfig, ShardIndex};
    use wire::{Families, Message, Position, Timestamp};

    use super::*;

    #[test]
    fn what_one_read_answers_to_many_is_encoded_once() {
        let scope = Families::default().parse_scope("default/user:1").unwrap();
        let mut router = Router::new(RouterConfig::default());
        let mut out = Vec::new();
        router.handle(Event::Up, 0, &mut out);
        for joiner in 0..30 {
            let after = Some(Position::new(7, joiner % 10));
            router.join(ShardIndex(0), Joiner(joiner), scope.clone(), after, &mut out);
        }
        router.handle(Event::Subscribed(scope.clone()), 0, &mut out);
        let entry = |offset| Entry {
            position: Position::new(7, offset),
            time: Timestamp(0),
            topic: Box::from(""),
            message: Bytes::from_static(if offset == 5 { b"poison" } else { br#"{"type":"t"}"# }),
        };
        let (mut reads, mut answers) = (0, 0);
        while !out.is_empty() {
            let (mut pages, calls) = (PageEncoder::default(), Cell::new(0));
            let mut questions = Vec::new();
            for output in out.drain(..) {
                match output {
                    Output::Command(Command::Read { ticket, after, .. }) => questions.push((ticket, after.unwrap())),
                    Output::Joined { joined, .. } => {
                        let frames = pages.encode(&joined.entries, |entry| {
                            calls.set(calls.get() + 1);
                            let message = Message::parse(&entry.message).ok()?;
                            Some(Outgoing::new(&message, &scope, Bytes::new(), entry.time, Some(entry.position)))
                        });
                        let offsets = frames.iter().map(|frame| frame.position().unwrap().offset);
                        assert!(offsets.eq(joined.entries.iter().map(|e| e.position.offset).filter(|o| *o != 5)));
                        answers += 1;
                    }
                    _ => {}
                }
            }
            assert!(calls.get() <= 10, "{} encodings of at most ten messages", calls.get());
            for (ticket, after) in questions {
                reads += 1;
                let entries = (after.offset + 1..=10).map(entry).collect();
                let history =
                    History { top: Position::new(7, 10), earlier: Vec::new(), torn: Vec::new(), entries, more: false };
                let result = Ok(history);
                router.handle(Event::History { ticket, result }, 0, &mut out);
            }
        }
        assert_eq!((answers, reads), (30, 2));
    }
}
