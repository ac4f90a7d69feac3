//! HTTP: the main port with its upgrades, the admin port, and the responses of both.

pub(crate) mod accept_backoff;
pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod answer;
pub(crate) mod client_address;
pub(crate) mod cors;
mod cross_site;
pub(crate) mod edge;
pub(crate) mod event_stream;
mod fields;
pub(crate) mod handshake;
mod head;
pub(crate) mod listeners;
pub(crate) mod page;
pub(crate) mod percent;
pub mod record_json;
pub(crate) mod refusal;
pub(crate) mod routing_cookie;
mod waiting_heads;
