//! The server side of RFC 6455: decodes the frames of a client as their bytes arrive.
//!
//! ```text
//!   read(2) ─▶ scratch ─▶ feed: header ─▶ unmask ─▶ UTF-8 ─▶ Input ─▶ take
//!                           │                                  ▲
//!                           └──▶ held: unfinished payload ─────┘
//! ```
//!
//! A shard reads all its sockets into one scratch buffer and feeds each connection's [`Codec`] from it. A frame that is
//! complete in the buffer is unmasked in place and never copied. Only the unfinished part at the end of a read is kept.
//! [`Input`] is a complete message or control frame. [`Violation`] is the reason why a connection must be closed, and
//! gives the close code.
//!
//! Every violation is refused as early as its bytes allow: a reserved bit at the first byte, a message above the limit
//! at the header of its frame, text that is not UTF-8 in the read with the first invalid byte.
//!
//! After a violation the codec skips frames up to the client's close frame, if it knows where frames end. A client in
//! the middle of a large message learns the reason only if the socket stays open until it has sent the rest.
//!
//! This module does not know about sockets, sessions or time. [`wire::WebSocketFrame`] encodes the frames that the
//! server sends.

mod accept;
mod close_frame;
mod header;
mod mask;
mod message;
#[cfg(test)]
mod tests;
mod utf8;
mod violation;

use std::mem;
use std::ops::ControlFlow;

pub use accept::accept_key;
pub use close_frame::CloseFrame;
use header::{CONTROL_BYTES_MAX, Control, Data, Header, HeaderBytes, Opcode};
use mask::Mask;
pub use message::Input;
use message::Message;
pub use violation::Violation;

/// The decoder state of one connection between two reads.
#[derive(Debug)]
pub struct Codec {
    /// Unmasked payload of unfinished frames: first the unfinished message, then a control frame that arrived between
    /// its fragments. It uses no heap memory while nothing is unfinished.
    held: Vec<u8>,
    stage: DecoderState,
    /// The message between two of its fragments. While one of its frames arrives, `stage` has it.
    message: Option<Message>,
    /// The limit of the next frame. A larger limit applies once the client has said who it is.
    message_bytes_max: usize,
    /// Messages that have ended, and control frames outside of messages. It tells two unfinished messages apart.
    finished: u32,
    /// Whether a violation has been reported. After that only a close frame is accepted.
    has_failed: bool,
}

// One per connection, and an idle connection has 2 KiB in total.
const _: () = assert!(size_of::<Codec>() <= 72);

/// What the next byte is part of.
#[derive(Debug, Clone, Copy)]
enum DecoderState {
    /// The header of a frame.
    Header(HeaderBytes),
    /// The payload of a frame. `remaining` bytes are still to come.
    Payload { remaining: usize, mask: Mask, part: Part },
    /// The payload of a frame after a violation, or of the violating frame itself.
    Skipped { remaining: u64 },
    /// No more input: after a close, after `take` has stopped, or after a violation that hides where its frame ends.
    Closed,
}

/// A message that has begun and not ended, or a control frame outside of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Differs from the number of the one before.
    pub number: u32,
    /// Bytes of memory that are held for it.
    pub bytes: usize,
}

/// What a frame belongs to.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A message. `fin` marks its last frame.
    Message { message: Message, fin: bool },
    /// A control frame. The last `held` bytes of [`Codec::held`] belong to it.
    Control { control: Control, held: u8 },
}

const _: () = assert!(CONTROL_BYTES_MAX <= u8::MAX as usize);

impl Codec {
    /// A codec at the first byte after the handshake. `message_bytes_max` limits a message with all its fragments.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        let stage = DecoderState::Header(HeaderBytes::default());
        Self { held: Vec::new(), stage, message: None, message_bytes_max, finished: 0, has_failed: false }
    }

    /// What has begun and not ended: a message, or a control frame outside of a message. `None` between two of them.
    #[must_use]
    pub fn unfinished(&self) -> Option<Unfinished> {
        let is_unfinished = match self.stage {
            DecoderState::Header(so_far) => self.message.is_some() || !so_far.is_empty(),
            DecoderState::Payload { .. } => true,
            DecoderState::Skipped { .. } | DecoderState::Closed => false,
        };
        is_unfinished.then_some(Unfinished { number: self.finished, bytes: self.held.capacity() })
    }

    /// Takes all of `bytes`, the next bytes of the stream, and calls `take` for each message and control frame that
    /// they complete, in order. `bytes` are unmasked in place. `take` may change the limit for the messages behind.
    ///
    /// A close frame and a break of `take` are final: later bytes are ignored, in this call and in later ones. After a
    /// violation only a close frame from a later call is accepted: it may answer the close frame that reported the
    /// violation.
    pub fn feed(
        &mut self,
        mut bytes: &mut [u8],
        mut take: impl FnMut(Input<'_>, &mut usize) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        match self.advance(&mut bytes, &mut take) {
            Ok(ControlFlow::Continue(())) => return Ok(()),
            Err(violation) if !self.has_failed => {
                self.forget();
                self.has_failed = true;
                if !matches!(
                    self.advance(&mut bytes, &mut |_, _| ControlFlow::Break(())),
                    Ok(ControlFlow::Continue(()))
                ) {
                    self.stage = DecoderState::Closed;
                }
                return Err(violation);
            }
            Ok(ControlFlow::Break(())) | Err(_) => {}
        }
        self.forget();
        self.stage = DecoderState::Closed;
        Ok(())
    }

    /// Whether the codec ignores all further bytes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, DecoderState::Closed)
    }

    fn forget(&mut self) {
        self.message = None;
        self.held = Vec::new();
    }

    /// Handles all of `bytes`, or those up to a violation.
    fn advance(
        &mut self,
        bytes: &mut &mut [u8],
        take: &mut impl FnMut(Input<'_>, &mut usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        loop {
            match self.stage {
                DecoderState::Closed => return Ok(ControlFlow::Break(())),
                DecoderState::Header(mut so_far) => {
                    self.stage = DecoderState::Closed; // After an invalid header the start of the next one is unknown.
                    let Some((header, used)) = so_far.push(bytes)? else {
                        self.stage = DecoderState::Header(so_far);
                        return Ok(ControlFlow::Continue(()));
                    };
                    *bytes = &mut mem::take(bytes)[used..];
                    self.stage = DecoderState::Skipped { remaining: header.payload_bytes };
                    if !self.has_failed || header.opcode == Opcode::Control(Control::Close) {
                        self.stage = self.begin(&header)?;
                    }
                }
                DecoderState::Payload { remaining, mut mask, mut part } => {
                    let here = remaining.min(bytes.len());
                    let (piece, behind) = mem::take(bytes).split_at_mut(here);
                    *bytes = behind;
                    mask.remove(piece);
                    let remaining = remaining - piece.len();
                    if remaining > 0 {
                        self.stage = DecoderState::Skipped { remaining: remaining as u64 };
                        self.keep(&mut part, piece)?;
                        self.stage = DecoderState::Payload { remaining, mask, part };
                        return Ok(ControlFlow::Continue(()));
                    }
                    self.stage = match part {
                        Part::Control { control: Control::Close, .. } => DecoderState::Closed,
                        _ => DecoderState::Header(HeaderBytes::default()),
                    };
                    if self.finish(part, piece, take)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                DecoderState::Skipped { remaining } => {
                    let skipped = remaining.min(bytes.len() as u64);
                    *bytes = &mut mem::take(bytes)[skipped as usize..];
                    if skipped < remaining {
                        self.stage = DecoderState::Skipped { remaining: remaining - skipped };
                        return Ok(ControlFlow::Continue(()));
                    }
                    self.stage = DecoderState::Header(HeaderBytes::default());
                }
            }
        }
    }

    /// Whether a frame with this header may come now. This is decided before its payload.
    fn begin(&mut self, header: &Header) -> Result<DecoderState, Violation> {
        let (part, room) = match header.opcode {
            Opcode::Control(control) => (Part::Control { control, held: 0 }, CONTROL_BYTES_MAX),
            Opcode::Data(data) => {
                let message = match (data, self.message.take()) {
                    (Data::Begin(kind), None) => Message::new(kind),
                    (Data::Continue, Some(message)) => message.continued(self.held.len())?,
                    (Data::Begin(_), Some(_)) => return Err(Violation::MessageUnfinished),
                    (Data::Continue, None) => return Err(Violation::NothingToContinue),
                };
                (Part::Message { message, fin: header.fin }, self.message_bytes_max.saturating_sub(self.held.len()))
            }
        };
        match usize::try_from(header.payload_bytes) {
            Ok(remaining) if remaining <= room => Ok(DecoderState::Payload { remaining, mask: header.mask, part }),
            _ => Err(Violation::TooBig { message_bytes_max: self.message_bytes_max }),
        }
    }

    /// Keeps a `piece` of a payload whose rest has not arrived.
    fn keep(&mut self, part: &mut Part, piece: &[u8]) -> Result<(), Violation> {
        self.hold(piece);
        match part {
            Part::Message { message, .. } => message.check(&self.held, piece.len()),
            Part::Control { held, .. } => {
                // Fits: the whole payload is at most CONTROL_BYTES_MAX.
                *held += piece.len() as u8;
                Ok(())
            }
        }
    }

    /// Handles the last `piece` of a frame.
    fn finish(
        &mut self,
        part: Part,
        piece: &[u8],
        take: &mut impl FnMut(Input<'_>, &mut usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        if matches!(part, Part::Message { fin: true, .. })
            || self.message.is_none() && matches!(part, Part::Control { .. })
        {
            self.finished = self.finished.wrapping_add(1);
        }
        match part {
            Part::Control { control, held: 0 } => {
                deliver_control(control, piece, |input| take(input, &mut self.message_bytes_max))
            }
            Part::Control { control, held } => {
                let start = self.held.len() - usize::from(held);
                self.hold(piece);
                let limit = &mut self.message_bytes_max;
                let flow = deliver_control(control, &self.held[start..], |input| take(input, limit))?;
                self.held.truncate(start);
                if start == 0 {
                    self.held = Vec::new();
                }
                Ok(flow)
            }
            Part::Message { message, fin: true } if self.held.is_empty() => {
                Ok(take(message.input(piece)?, &mut self.message_bytes_max))
            }
            Part::Message { message, fin: true } => {
                self.hold(piece);
                Ok(take(message.input(&mem::take(&mut self.held))?, &mut self.message_bytes_max))
            }
            Part::Message { mut message, fin: false } => {
                self.hold(piece);
                message.check(&self.held, piece.len())?;
                self.message = Some(message);
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Appends to `held`. Capacity grows with the received bytes, never with the length that a header claims. It
    /// doubles, so that a byte is moved once on average, and stays within the limits for one message and one control
    /// frame.
    fn hold(&mut self, piece: &[u8]) {
        let needed = self.held.len() + piece.len();
        if needed > self.held.capacity() {
            let most = self.message_bytes_max.saturating_add(CONTROL_BYTES_MAX);
            let capacity = (2 * self.held.capacity()).min(most).max(needed);
            self.held.reserve_exact(capacity - self.held.len());
        }
        self.held.extend_from_slice(piece);
    }
}

fn deliver_control(
    control: Control,
    payload: &[u8],
    take: impl FnOnce(Input<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    match control {
        Control::Ping => Ok(take(Input::Ping(payload))),
        Control::Pong => Ok(take(Input::Pong(payload))),
        Control::Close => {
            // Nothing may follow a close frame (§5.5.1), whatever `take` returns.
            let _last = take(Input::Close(CloseFrame::parse(payload)?));
            Ok(ControlFlow::Break(()))
        }
    }
}
