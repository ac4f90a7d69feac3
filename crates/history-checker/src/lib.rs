//! Judges what publishers were told and what clients received: was anything lost, doubled or reordered in silence?
//!
//! ```text
//!   publishers: sent, answered ─┐                    ┌─▶ publications   which message stands at which position
//!   clients: every raw frame ───┼─▶ one log, lines ──┤                    │ compared, line by line and at the end
//!   faults: began, ended ───────┘                    └─▶ View     what one subscription has been told
//!                                                              ─▶ Verdict: anomalies with the lines that prove them
//! ```
//!
//! The types that matter: [`Record`], one line of the log; [`Checker`], which is fed the lines in order;
//! [`Verdict`], what it found.
//!
//! The log is all it sees. Gateways' own logs and metrics are no evidence, and this crate shares no code with the
//! product: a frame that the product misreads must not be misread here the same way.
//!
//! This crate does not publish, connect, or break anything: `chaos` does, and runs the checker as another process.
#![warn(missing_docs)]

mod channel;
mod checker;
mod connection;
mod frame;
mod position;
mod publications;
mod record;
mod segment;
mod sessions;
mod verdict;
mod view;

pub use checker::Checker;
pub use position::Position;
pub use record::{Event, PublishAnswer, Record, Retry};
pub use verdict::{Anomaly, AnomalyKind, Tally, Verdict};
