//! A message and the fragments it comes in (RFC 6455 §5.4).

use super::close_frame::CloseFrame;
use super::utf8;
use super::violation::Violation;

/// Most frames one message may be cut into. A message counts against the connection's rate when it is whole, so
/// without this an endless message of empty fragments would count for nothing. Writers that cut at all cut at their
/// buffer, 4 KiB and more: a message of 16 MiB still passes.
pub const FRAGMENTS_MAX: u16 = 4096;

/// What a client said: a whole message, or a control frame that came before, after or inside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or a sign of life that nobody asked for.
    Pong(&'a [u8]),
    /// The last thing the client says, to be answered by a close with the same code.
    Close(Option<CloseFrame<'a>>),
}

/// What a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    Text,
    Binary,
}

/// A message that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    /// Frames that have begun.
    fragments: u16,
    kind: MessageKind,
    /// Bytes at the end of what is held that begin a character: 0 to 3, and 0 unless text.
    unfinished_tail: u8,
}

impl Message {
    pub(super) const fn new(kind: MessageKind) -> Self {
        Self { fragments: 1, kind, unfinished_tail: 0 }
    }

    /// One frame more.
    pub(super) const fn continued(mut self) -> Result<Self, Violation> {
        if self.fragments == FRAGMENTS_MAX {
            return Err(Violation::TooManyFragments);
        }
        self.fragments += 1;
        Ok(self)
    }

    /// Looks at the last `added` bytes of `held`, all that came so far of the message.
    ///
    /// Text that cannot become UTF-8 any more is refused here, not when the message ends.
    pub(super) fn check(&mut self, held: &[u8], added: usize) -> Result<(), Violation> {
        if self.kind == MessageKind::Text {
            let checked = held.len() - added - usize::from(self.unfinished_tail);
            self.unfinished_tail = utf8::unfinished_tail(&held[checked..])?;
        }
        Ok(())
    }

    /// The whole message. Text that came in pieces is looked at a second time, which costs less than the copy it had.
    pub(super) fn input(self, whole: &[u8]) -> Result<Input<'_>, Violation> {
        match self.kind {
            MessageKind::Text => Ok(Input::Text(simdutf8::basic::from_utf8(whole).map_err(|_| Violation::NotUtf8)?)),
            MessageKind::Binary => Ok(Input::Binary(whole)),
        }
    }
}
