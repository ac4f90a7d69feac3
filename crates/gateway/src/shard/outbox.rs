//! The queue of bytes to send on one connection: encoded, bounded, ordered by lane.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use crate::protocol::cursor::CURSOR_BYTES_MAX;
use crate::protocol::encoder::{Encoder, Format};
use crate::protocol::event_stream;
use crate::protocol::outbound::{Frame, Outbound};
use crate::protocol::outgoing::Outgoing;
use crate::session::rules::Lane;

/// Whether an entry was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Queued {
    /// It will be sent.
    Yes,
    /// It was not queued: the outbox has no room for it.
    Full,
}

/// Whether a socket took all bytes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Wrote {
    All,
    /// The socket is full.
    Part,
}

/// A queue of encoded bytes. It uses no heap memory while it is empty.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Ordered by lane after the head. The head may be partly written and keeps its place.
    entries: VecDeque<(Lane, Outbound)>,
    /// Bytes of the head that are already written.
    written: u32,
    /// Unwritten bytes of all entries. At most as many as a shard's inbox holds.
    bytes: u32,
    encoder: Encoder,
}

/// A queue that has grown beyond this many entries releases its memory when it is empty.
const KEPT_ENTRIES_MAX: usize = 8;

impl Outbox {
    /// An empty outbox. `encoder` gives the bytes of its entries.
    pub(crate) fn new(encoder: Encoder) -> Self {
        Self { entries: VecDeque::new(), written: 0, bytes: 0, encoder }
    }

    pub(crate) fn format(&self) -> Format {
        self.encoder.format()
    }

    /// Adds an entry after those of its own and smaller lanes.
    pub(crate) fn push(&mut self, lane: Lane, outbound: Outbound, bytes_max: usize) -> Queued {
        let len = self.encoder.bytes(&outbound).len();
        // An entry larger than the bound is still accepted if nothing else waits.
        if self.bytes() + len > bytes_max && self.bytes > 0 {
            return Queued::Full;
        }
        self.append(lane, outbound);
        Queued::Yes
    }

    /// Adds an entry without a bound.
    pub(crate) fn append(&mut self, lane: Lane, outbound: Outbound) {
        self.bytes += size_of_bytes(self.encoder.bytes(&outbound));
        match self.entries.back() {
            Some((last, _)) if *last > lane => {
                let head = self.head();
                let behind = self.entries.range(head..).position(|(other, _)| *other > lane);
                let at = behind.map_or(self.entries.len(), |found| head + found);
                self.entries.insert(at, (lane, outbound));
            }
            _ => self.entries.push_back((lane, outbound)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Unwritten bytes of an entry that was accepted although it alone is larger than the bound, while it is written or
    /// is the next to be written. They count against no bound: the client has only to read on.
    pub(crate) fn oversized(&self, bytes_max: usize) -> usize {
        let first =
            self.entries.iter().take(self.head().max(1)).map(|(_, outbound)| self.encoder.bytes(outbound).len());
        let (all, largest) = first.fold((0, 0), |(all, largest), len| (all + len, len.max(largest)));
        if largest > bytes_max { all - self.written as usize } else { 0 }
    }

    /// Bytes of memory, if no other outbox shared the entries. Memory limits use this number.
    pub(crate) fn cost(&self) -> u64 {
        (self.bytes() + self.entries.len() * size_of::<(Lane, Outbound)>()) as u64
    }

    /// Makes one write: the rest of one entry alone, or as many entries as fit into `scratch`. They are copied
    /// together, so that many small messages cost one `write(2)`.
    ///
    /// # Errors
    ///
    /// When the socket has failed.
    pub(crate) fn write(
        &mut self,
        scratch: &mut Vec<u8>,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Wrote> {
        if self.head() == 0 && self.gather_events(scratch) {
            let (n, wrote) = taken(write(scratch), scratch.len())?;
            if n < scratch.len() {
                let rest = Frame::new(&scratch[n..]);
                self.bytes += size_of_bytes(rest.bytes());
                self.entries.push_front((Lane::CONTROL, Outbound::Frame(rest)));
                self.encoder.pin(1);
            } else {
                self.give_back();
            }
            return Ok(wrote);
        }
        let bytes = self.next_write(scratch);
        let (n, wrote) = taken(write(bytes), bytes.len())?;
        self.advance(n);
        Ok(wrote)
    }

    /// Takes as many events as fit into `scratch`, each with an id that says what the client has received by then.
    /// Returns false if the entries can be written as they are.
    fn gather_events(&mut self, scratch: &mut Vec<u8>) -> bool {
        let Self { entries, encoder: Encoder::EventStream(stream), bytes, .. } = self else { return false };
        scratch.clear();
        while let Some((lane, outbound)) = entries.front() {
            let body = event_stream::bytes(outbound);
            if body.len() > scratch.capacity() / 2 {
                if scratch.is_empty() {
                    // The event is too large to be copied for each receiver. Its id is written before it.
                    let (lane, mut id, outbound) = (*lane, Vec::new(), outbound.clone());
                    stream.write_id(&outbound, &mut id);
                    *bytes += size_of_bytes(&id);
                    entries[0].1 = event_stream::without_id(outbound);
                    entries.push_front((lane, Outbound::Frame(Frame::new(id))));
                    stream.pinned = 2;
                    return false;
                }
                break;
            }
            if !scratch.is_empty() && scratch.len() + body.len() + CURSOR_BYTES_MAX > scratch.capacity() {
                break;
            }
            stream.write_id(outbound, scratch);
            scratch.extend_from_slice(body);
            *bytes -= size_of_bytes(body);
            entries.pop_front();
        }
        true
    }

    fn next_write<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let count = match self.encoder.pinned() {
            0 => self.entries.len(),
            pinned => pinned,
        };
        let mut entries = self.entries.iter().take(count).map(|(_, outbound)| self.encoder.bytes(outbound));
        let Some(head) = entries.next() else { return &[] };
        let head = &head[self.written as usize..];
        if count == 1 || head.len() >= scratch.capacity() {
            return head;
        }
        scratch.clear();
        scratch.extend_from_slice(head);
        for bytes in entries {
            if scratch.len() + bytes.len() > scratch.capacity() {
                break;
            }
            scratch.extend_from_slice(bytes);
        }
        scratch
    }

    /// Removes the first `n` bytes, which have been written.
    fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.bytes(), "only queued bytes are written");
        self.bytes -= n as u32;
        let mut written = self.written as usize + n;
        while let Some((_, head)) = self.entries.front() {
            let len = self.encoder.bytes(head).len();
            if written < len {
                self.written = written as u32;
                return;
            }
            written -= len;
            self.encoder.pin(self.encoder.pinned().saturating_sub(1));
            self.entries.pop_front();
        }
        self.written = 0;
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES_MAX {
            self.entries = VecDeque::new();
        }
    }

    /// Checks messages from the last to the first, and drops those that `may_evict` selects, until at most `keep` bytes
    /// are left. The entry in flight stays, and so does every entry that is not a message.
    pub(crate) fn evict(&mut self, keep: usize, mut may_evict: impl FnMut(&Outgoing) -> bool) {
        let head = self.head();
        let mut behind = Vec::new();
        while self.bytes() > keep && self.entries.len() > head {
            let Some((lane, outbound)) = self.entries.pop_back() else { break };
            match &outbound {
                Outbound::Message(message) if may_evict(message) => {
                    self.bytes -= size_of_bytes(self.encoder.bytes(&outbound));
                }
                _ => behind.push((lane, outbound)),
            }
        }
        self.entries.extend(behind.into_iter().rev());
        if self.entries.capacity() > 4 * self.entries.len() {
            self.entries.shrink_to_fit();
        }
    }

    /// Drops the entries whose write has not started. The client is then closed with a reason and resumes.
    pub(crate) fn discard_unsent(&mut self) {
        self.entries.truncate(self.head());
        let bytes: u32 = self.entries.iter().map(|(_, outbound)| size_of_bytes(self.encoder.bytes(outbound))).sum();
        self.bytes = bytes - self.written;
    }

    /// How many entries keep their place: a partly written one, and those whose ids are written.
    fn head(&self) -> usize {
        self.encoder.pinned().max(usize::from(self.written > 0))
    }
}

/// The size of an entry. It has at most 16 MiB and the overhead of the protocol.
fn size_of_bytes(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("no entry has 4 GiB")
}

/// How many of the `wanted` bytes a socket took, and whether it takes more.
fn taken(written: io::Result<usize>, wanted: usize) -> io::Result<(usize, Wrote)> {
    match written {
        Ok(n) => Ok((n, if n == wanted { Wrote::All } else { Wrote::Part })),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((0, Wrote::Part)),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok((0, Wrote::All)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
impl Outbox {
    /// Takes the next entry, like a socket with enough room.
    pub(crate) fn take_entry(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        let written = self.write(&mut Vec::new(), |bytes| {
            taken.extend_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(written.unwrap(), Wrote::All);
        taken
    }

    /// Takes `n` bytes of the next entry.
    pub(crate) fn take_bytes(&mut self, n: usize) {
        let written = self.write(&mut Vec::new(), |bytes| Ok(n.min(bytes.len())));
        assert_eq!(written.unwrap(), Wrote::Part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::encoder::control;
    use wire::Opcode;

    fn frame(text: &str) -> Outbound {
        control(Opcode::Text, text.as_bytes())
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
        let mut outbox = Outbox::new(Encoder::WebSocket);
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
        let mut outbox = Outbox::new(Encoder::WebSocket);
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
        let mut outbox = Outbox::new(Encoder::WebSocket);
        assert_eq!(outbox.push(Lane(3), frame("0123456789"), 8), Queued::Yes, "a lone frame is always taken");
        assert_eq!(outbox.push(Lane(3), frame("x"), 8), Queued::Full);
        assert_eq!(outbox.bytes(), 12);
    }

    #[test]
    fn discarding_keeps_the_frame_in_flight_whole() {
        let mut outbox = Outbox::new(Encoder::WebSocket);
        for text in ["first", "second"] {
            assert_eq!(outbox.push(Lane(3), frame(text), 1024), Queued::Yes);
        }
        outbox.advance(2);
        outbox.discard_unsent();
        assert_eq!(outbox.bytes(), 5);
        assert_eq!(drain(&mut outbox), b"first");
    }
}
