//! How replies and messages are encoded and framed for clients.
//!
//! ```text
//!   ServerFrame ─▶ Encoder of the connection ─▶ Outbound::Frame ──┐
//!   Message ─▶ Outgoing, shared by all receivers ─▶ Outbound::Message ─▶ outbox ─▶ Encoder: bytes ─▶ write(2)
//! ```
//!
//! A *format* is a protocol and a transport. A message is encoded once for each format in use.

pub(crate) mod cursor;
pub(crate) mod encoder;
pub(crate) mod event_stream;
pub(crate) mod outbound;
pub(crate) mod outgoing;
pub(crate) mod shared_reply;
