//! What the bytes mean: names, frames, positions, close codes and limits. The dictionary of the project.
//!
//! ```text
//!   browser ──▶ ClientFrame ──▶ gateway ──▶ Envelope ──▶ Redis
//!   browser ◀── bytes ◀── ServerFrame │ Message ◀── Envelope ◀── Redis
//! ```
//!
//! The three types that matter: [`ClientFrame`], everything a client may say; [`ServerFrame`], everything
//! the gateway may say; [`WebSocketFrame`], the bytes of one frame.
//! [`Families`] is the only parser of channel names.
//!
//! `docs/protocol.md` is the same contract in prose; a test holds the two together.
//!
//! This crate does not know about sockets, Redis, tasks or clocks. It contains no `async`.
#![warn(missing_docs)]

mod binary;
mod channel;
mod client_frame;
mod close;
mod envelope;
mod error_code;
mod id;
mod limits;
mod message;
mod notice;
mod object;
mod position;
mod server_frame;
mod timestamp;
mod websocket_frame;

pub use binary::split_binary;
pub use channel::{Channel, ChannelError, Families, FamilyIndex, FamilyShape, Filter, Pattern, Scope};
pub use client_frame::{BadFrame, ClientBody, ClientFrame, Resume};
pub use close::Close;
pub use envelope::{BadEnvelope, Envelope, EnvelopeItems};
pub use error_code::ErrorCode;
pub use id::{BadName, InstanceId, Name, SessionId, TenantId, UserId};
pub use limits::*;
pub use message::{BadMessage, Message, MessageDraft};
pub use notice::{BadNotice, Notice};
pub use position::{BadPosition, Position};
pub use server_frame::{AckLevel, GapReason, PresenceMember, Restored, ServerFrame, Welcome};
pub use timestamp::Timestamp;
pub use websocket_frame::{Opcode, WebSocketFrame};
