//! WebSocket framing (RFC 6455).

pub mod codec;
