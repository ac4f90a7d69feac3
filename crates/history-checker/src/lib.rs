//! Judges the answers that publishers got and the frames that clients received: was anything lost, doubled or reordered
//! without notice?
//!
//! ```text
//!   publishers: sent, answered ─┐                    ┌─▶ PublicationLog   the message at each position
//!   clients: frames and events ┼─▶ one log, lines ──┤      │ compared, line by line and at the end
//!   faults: began, ended ───────┘                    └─▶ View             what one subscription has received
//!                                                           ─▶ Verdict: anomalies with the lines that prove them
//! ```
//!
//! The types that matter: [`Record`] is one line of the log. [`Checker`] takes the lines in order. [`Verdict`] is what
//! it found.
//!
//! A record names the transport of its connection. A client of a WebSocket keeps a position for each subscription. A client
//! of an event stream keeps what a browser keeps: the id of the last event that was complete.
//!
//! The checker sees only this log. Logs and metrics of gateways are no evidence. This crate shares no code with the
//! product: a mistake in the product's reading of a frame must not be repeated here.
//!
//! This crate does not publish, connect or break anything: `chaos` does, and runs the checker as another process.
#![warn(missing_docs)]

mod channel;
mod checker;
mod connection;
mod event_stream;
mod frame;
mod position;
mod publications;
mod record;
mod segment;
mod sessions;
mod verdict;
mod view;

pub use checker::Checker;
pub use event_stream::StreamEvent;
pub use position::Position;
pub use record::{Event, PublishAnswer, Record, Retry, Transport};
pub use verdict::{Anomaly, AnomalyKind, Tally, Verdict};
