//! The contract of the protocol: names, frames, positions, close codes and limits.
//!
//! ```text
//!   client ──▶ ClientFrame ──▶ gateway ──▶ MessageDraft ──▶ Redis
//!   client ◀── bytes ◀── ServerFrame │ Message ◀── Envelope ◀── Redis
//! ```
//!
//! The three types that matter: [`ClientFrame`] is everything that a client may send. [`ServerFrame`] is everything that
//! the gateway may send besides messages. [`Families`] is the only parser of channel names.
//!
//! `docs/protocol.md` states the same contract in prose; the tests compare the two.
//!
//! This crate contains no sockets, no Redis client, no tasks, no clocks and no `async`.
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
