//! The server's side of RFC 6455: what a client sends, taken out of the stream as it comes.
//!
//! ```text
//!   read(2) ─▶ scratch ─▶ feed: header ─▶ unmask ─▶ UTF-8 ─▶ Input ─▶ take
//!                           │                                  ▲
//!                           └──▶ held: what is unfinished ─────┘
//! ```
//!
//! A shard reads all its sockets into one scratch buffer and feeds each connection's [`Codec`] from it. A frame
//! that is whole there is unmasked in place and never copied; only what is unfinished at the end of a read is kept.
//! [`Input`] is a whole message or control frame; [`Violation`] is why a connection must be closed, and with what code.
//!
//! Everything is refused as early as its bytes allow: a reserved bit at the first byte, a message above the limit at
//! its frame's header, text that is not UTF-8 in the read that brings the byte which breaks it.
//!
//! Behind a violation frames are skipped up to the client's close frame, where it is known where they end: a client in
//! the middle of a large message learns why it is refused only if the socket stays open until it has sent the rest.
//!
//! This module does not know about sockets, sessions or time. What the server sends is made by [`wire::Encoded`].

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
use message::Message;
pub use message::{FRAGMENTS_MAX, Input};
pub use violation::Violation;

/// What one connection keeps between two reads.
#[derive(Debug)]
pub struct Codec {
    /// Payload that waits for the rest, unmasked: the unfinished message's, behind it that of a control frame between
    /// its fragments. Without heap memory while nothing is unfinished.
    held: Vec<u8>,
    stage: DecoderState,
    /// The message between two of its fragments; while a frame of it comes in, the frame has it.
    message: Option<Message>,
    message_bytes_max: usize,
    /// A violation has been reported: nothing but a close frame is taken any more.
    has_failed: bool,
}

// One per connection, and an idle connection has 2 KiB for everything.
const _: () = assert!(size_of::<Codec>() <= 64);

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum DecoderState {
    /// A header.
    Header(HeaderBytes),
    /// The payload of a frame, of which `remaining` bytes are still to come.
    Payload { remaining: usize, mask: Mask, part: Part },
    /// The payload of a frame behind a violation, or of the one that is the violation.
    Skipped { remaining: u64 },
    /// Nothing: behind a close, a break, or a violation of which it is not known where its frame ends.
    Closed,
}

/// What a frame is part of.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A message; `fin` ends it.
    Message { message: Message, fin: bool },
    /// Itself; the last `held` bytes of [`Codec::held`] are its own.
    Control { control: Control, held: u8 },
}

const _: () = assert!(CONTROL_BYTES_MAX <= u8::MAX as usize);

impl Codec {
    /// A codec at the first byte behind the handshake. `message_bytes_max` bounds a message put together from all
    /// its fragments.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        let stage = DecoderState::Header(HeaderBytes::default());
        Self { held: Vec::new(), stage, message: None, message_bytes_max, has_failed: false }
    }

    /// Takes the next `bytes` of the stream, all of them, and calls `take` for each message and control frame that they
    /// complete, in order. `bytes` are unmasked in place.
    ///
    /// A close frame and a break of `take` are final: nothing behind them is looked at, in this call or a later one. Behind
    /// a violation nothing is taken but a close frame that a later call brings: it may answer the close that told of it.
    pub fn feed(
        &mut self,
        mut bytes: &mut [u8],
        mut take: impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        match self.advance(&mut bytes, &mut take) {
            Ok(ControlFlow::Continue(())) => return Ok(()),
            Err(violation) if !self.has_failed => {
                self.forget();
                self.has_failed = true;
                if !matches!(self.advance(&mut bytes, &mut |_| ControlFlow::Break(())), Ok(ControlFlow::Continue(()))) {
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

    /// Whether nothing more will be taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, DecoderState::Closed)
    }

    fn forget(&mut self) {
        self.message = None;
        self.held = Vec::new();
    }

    /// Takes all of `bytes`, or those up to a violation.
    fn advance(
        &mut self,
        bytes: &mut &mut [u8],
        take: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        loop {
            match self.stage {
                DecoderState::Closed => return Ok(ControlFlow::Break(())),
                DecoderState::Header(mut so_far) => {
                    self.stage = DecoderState::Closed; // Behind a header that is wrong nobody knows where the next one begins.
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

    /// Whether a frame with this header may come now, before any of its payload is looked at.
    fn begin(&mut self, header: &Header) -> Result<DecoderState, Violation> {
        let (part, room) = match header.opcode {
            Opcode::Control(control) => (Part::Control { control, held: 0 }, CONTROL_BYTES_MAX),
            Opcode::Data(data) => {
                let message = match (data, self.message.take()) {
                    (Data::Begin(kind), None) => Message::new(kind),
                    (Data::Continue, Some(message)) => message.continued()?,
                    (Data::Begin(_), Some(_)) => return Err(Violation::MessageUnfinished),
                    (Data::Continue, None) => return Err(Violation::NothingToContinue),
                };
                (Part::Message { message, fin: header.fin }, self.message_bytes_max - self.held.len())
            }
        };
        match usize::try_from(header.payload_bytes) {
            Ok(remaining) if remaining <= room => Ok(DecoderState::Payload { remaining, mask: header.mask, part }),
            _ => Err(Violation::TooBig { message_bytes_max: self.message_bytes_max }),
        }
    }

    /// Keeps a `piece` of a payload whose rest has not come.
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

    /// The last `piece` of a frame is here.
    fn finish(
        &mut self,
        part: Part,
        piece: &[u8],
        take: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        match part {
            Part::Control { control, held: 0 } => deliver_control(control, piece, take),
            Part::Control { control, held } => {
                let start = self.held.len() - usize::from(held);
                self.hold(piece);
                let flow = deliver_control(control, &self.held[start..], take)?;
                self.held.truncate(start);
                if start == 0 {
                    self.held = Vec::new();
                }
                Ok(flow)
            }
            Part::Message { message, fin: true } if self.held.is_empty() => Ok(take(message.input(piece)?)),
            Part::Message { message, fin: true } => {
                self.hold(piece);
                Ok(take(message.input(&mem::take(&mut self.held))?))
            }
            Part::Message { mut message, fin: false } => {
                self.hold(piece);
                message.check(&self.held, piece.len())?;
                self.message = Some(message);
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Appends to `held`, growing it with what came and never by what a header claims: twofold, so that a byte is moved
    /// once on average, but not above what the limits allow in it.
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
    take: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    match control {
        Control::Ping => Ok(take(Input::Ping(payload))),
        Control::Pong => Ok(take(Input::Pong(payload))),
        Control::Close => {
            // Whatever `take` says, nothing may follow a close (§5.5.1).
            let _last = take(Input::Close(CloseFrame::parse(payload)?));
            Ok(ControlFlow::Break(()))
        }
    }
}
