//! What one connection has yet to be sent: finished frames, bounded in bytes, ordered by lane.

use std::collections::VecDeque;

use wire::Encoded;

use crate::session::rules::Lane;

/// Whether a frame found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Queued {
    /// It will be sent.
    Yes,
    /// It was not taken: the outbox holds as many bytes as it may.
    Full,
}

/// A queue of finished frames. Holds no heap memory while empty.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Ordered by lane behind the head, which may be half written and keeps its place.
    frames: VecDeque<(Lane, Encoded)>,
    /// Bytes of the head that are written already.
    written: usize,
    /// Bytes of all frames not yet written.
    bytes: usize,
}

/// A queue that grew beyond this many frames gives its memory back when it is empty.
const KEPT_FRAMES_MAX: usize = 8;

impl Outbox {
    /// Appends a frame behind those of its own and smaller lanes.
    pub(crate) fn push(&mut self, lane: Lane, frame: Encoded, bytes_max: usize) -> Queued {
        let len = frame.bytes().len();
        // A frame above the bound still goes out when nothing else waits.
        if self.bytes + len > bytes_max && self.bytes > 0 {
            return Queued::Full;
        }
        self.append(lane, frame);
        Queued::Yes
    }

    /// Appends a frame, whatever the bound says.
    pub(crate) fn append(&mut self, lane: Lane, frame: Encoded) {
        self.bytes += frame.bytes().len();
        match self.frames.back() {
            Some((last, _)) if *last > lane => {
                let head = usize::from(self.written > 0);
                let behind = self.frames.range(head..).position(|(other, _)| *other > lane);
                let at = behind.map_or(self.frames.len(), |found| head + found);
                self.frames.insert(at, (lane, frame));
            }
            _ => self.frames.push_back((lane, frame)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all of it costs in memory, if no other outbox shared the frames: what budgets count.
    pub(crate) fn cost(&self) -> u64 {
        (self.bytes + self.frames.len() * size_of::<(Lane, Encoded)>()) as u64
    }

    /// The bytes to write next: the rest of one frame alone, or as many frames as fit `scratch`, copied together
    /// so that many small messages cost one `write(2)`.
    pub(crate) fn next_write<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let mut frames = self.frames.iter().map(|(_, frame)| frame.bytes());
        let Some(head) = frames.next() else { return &[] };
        let head = &head[self.written..];
        if self.frames.len() == 1 || head.len() >= scratch.capacity() {
            return head;
        }
        scratch.clear();
        scratch.extend_from_slice(head);
        for frame in frames {
            if scratch.len() + frame.len() > scratch.capacity() {
                break;
            }
            scratch.extend_from_slice(frame);
        }
        scratch
    }

    /// Forgets the first `n` bytes: they are written.
    pub(crate) fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.bytes, "only queued bytes are written");
        self.bytes -= n;
        self.written += n;
        while let Some((_, head)) = self.frames.front() {
            let len = head.bytes().len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.frames.pop_front();
        }
        if self.frames.capacity() > KEPT_FRAMES_MAX {
            self.frames = VecDeque::new();
        }
    }

    /// Looks at frames from the last towards the first, and lets go of those that `may_evict` says, until no more than `keep`
    /// bytes are left. The frame in flight stays.
    pub(crate) fn evict(&mut self, keep: usize, mut may_evict: impl FnMut(&Encoded) -> bool) {
        let head = usize::from(self.written > 0);
        let mut behind = Vec::new();
        while self.bytes > keep && self.frames.len() > head {
            let Some((lane, frame)) = self.frames.pop_back() else { break };
            match may_evict(&frame) {
                true => self.bytes -= frame.bytes().len(),
                false => behind.push((lane, frame)),
            }
        }
        self.frames.extend(behind.into_iter().rev());
        if self.frames.capacity() > 4 * self.frames.len() {
            self.frames.shrink_to_fit();
        }
    }

    /// Drops what has not begun to be written: a client that read too slowly is told why, and resumes.
    pub(crate) fn discard_unsent(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.front().map_or(0, |(_, head)| head.bytes().len() - self.written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Opcode;

    fn frame(text: &str) -> Encoded {
        Encoded::new(Opcode::Text, text.as_bytes())
    }

    fn drain(outbox: &mut Outbox) -> Vec<u8> {
        let mut scratch = Vec::with_capacity(64);
        let mut all = Vec::new();
        while !outbox.is_empty() {
            let n = {
                let bytes = outbox.next_write(&mut scratch);
                let n = bytes.len().min(3); // a socket that takes three bytes at a time
                all.extend_from_slice(&bytes[..n]);
                n
            };
            outbox.advance(n);
        }
        all
    }

    #[test]
    fn small_frames_leave_in_one_write_and_in_order() {
        let mut outbox = Outbox::default();
        for text in ["a", "b", "c"] {
            assert_eq!(outbox.push(Lane(3), frame(text), 1024), Queued::Yes);
        }
        let mut scratch = Vec::with_capacity(64);
        assert_eq!(outbox.next_write(&mut scratch), b"\x81\x01a\x81\x01b\x81\x01c");
        assert_eq!(drain(&mut outbox), b"\x81\x01a\x81\x01b\x81\x01c");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_smaller_lane_overtakes_but_never_the_frame_in_flight() {
        let mut outbox = Outbox::default();
        for text in ["slow1", "slow2"] {
            assert_eq!(outbox.push(Lane(3), frame(text), 1024), Queued::Yes);
        }
        outbox.advance(1);
        assert_eq!(outbox.push(Lane(1), frame("fast"), 1024), Queued::Yes);
        assert_eq!(outbox.push(Lane::CLOSE, frame("end"), 1024), Queued::Yes);
        assert_eq!(outbox.push(Lane(1), frame("fast2"), 1024), Queued::Yes);
        let text = String::from_utf8_lossy(&drain(&mut outbox)).into_owned();
        let order: Vec<_> = ["slow1", "fast", "fast2", "slow2", "end"].iter().map(|t| text.find(t).unwrap()).collect();
        assert!(order.is_sorted(), "{text:?}");
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Lane(3), frame("0123456789"), 8), Queued::Yes, "a lone frame is always taken");
        assert_eq!(outbox.push(Lane(3), frame("x"), 8), Queued::Full);
        assert_eq!(outbox.bytes(), 12);
    }

    #[test]
    fn discarding_keeps_the_frame_in_flight_whole() {
        let mut outbox = Outbox::default();
        for text in ["first", "second"] {
            assert_eq!(outbox.push(Lane(3), frame(text), 1024), Queued::Yes);
        }
        outbox.advance(2);
        outbox.discard_unsent();
        assert_eq!(outbox.bytes(), 5);
        assert_eq!(drain(&mut outbox), b"first");
    }
}
