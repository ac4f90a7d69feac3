//! Transports: sockets, TLS, and the framing of each transport.

pub(crate) mod hand_over;
pub(crate) mod key_sets;
pub(crate) mod proxy_protocol;
pub(crate) mod socket;
pub(crate) mod sse;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
pub(crate) mod tls;
#[cfg_attr(not(feature = "tls"), path = "no_tls_client.rs")]
pub(crate) mod tls_client;
pub(crate) mod websocket;
