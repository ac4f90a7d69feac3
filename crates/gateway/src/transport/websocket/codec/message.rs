//! A message and its fragments (RFC 6455 §5.4).

use super::close_frame::CloseFrame;
use super::utf8;
use super::violation::Violation;

/// Frames that every message may consist of, also without payload. A message counts against the connection's rate when
/// it is complete, so without a limit an endless message of empty fragments would never count.
pub(super) const FRAGMENTS_FREE: u32 = 4096;

/// A message may have one more frame for each of these bytes that it has brought. Some clients write fragments of 64
/// bytes, and their messages are bounded in bytes anyway.
pub(super) const BYTES_PER_FRAGMENT: usize = 16;

/// A complete message, or a control frame that came before, after or inside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A complete text message.
    Text(&'a str),
    /// A complete binary message.
    Binary(&'a [u8]),
    /// A ping. Its answer is a pong with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or an unsolicited pong.
    Pong(&'a [u8]),
    /// The client's close frame, its last frame. Its answer is a close frame with the same code.
    Close(Option<CloseFrame<'a>>),
}

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    Text,
    Binary,
}

/// A message that has started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    /// The number of frames that have started.
    fragments: u32,
    kind: MessageKind,
    /// How many bytes at the end of `held` begin an incomplete character: 0 to 3, and always 0 for binary messages.
    unfinished_tail: u8,
}

impl Message {
    pub(super) const fn new(kind: MessageKind) -> Self {
        Self { fragments: 1, kind, unfinished_tail: 0 }
    }

    /// Counts one more frame. `received` bytes of the message have arrived before it.
    pub(super) const fn continued(mut self, received: usize) -> Result<Self, Violation> {
        if self.fragments as usize >= FRAGMENTS_FREE as usize + received / BYTES_PER_FRAGMENT {
            return Err(Violation::TooManyFragments);
        }
        self.fragments += 1;
        Ok(self)
    }

    /// Checks the last `added` bytes of `held`, which has everything received of the message.
    ///
    /// Text that can no longer become UTF-8 is refused here, not at the end of the message.
    pub(super) fn check(&mut self, held: &[u8], added: usize) -> Result<(), Violation> {
        if self.kind == MessageKind::Text {
            let checked = held.len() - added - usize::from(self.unfinished_tail);
            self.unfinished_tail = utf8::unfinished_tail(&held[checked..])?;
        }
        Ok(())
    }

    /// The complete message. Text that arrived in pieces is checked a second time, which costs less than its copy did.
    pub(super) fn input(self, whole: &[u8]) -> Result<Input<'_>, Violation> {
        match self.kind {
            MessageKind::Text => Ok(Input::Text(simdutf8::basic::from_utf8(whole).map_err(|_| Violation::NotUtf8)?)),
            MessageKind::Binary => Ok(Input::Binary(whole)),
        }
    }
}
