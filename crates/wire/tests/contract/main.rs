//! Holds the code, `docs/protocol.md` and `docs/vectors` together.
//!
//! ```text
//!   docs/vectors/*.json ──every case──▶ the code        client_frames, server_frames, messages, names
//!   docs/protocol.md ──tables, examples──▶ the code     tables, examples
//!   src/*.rs ──digest──▶ docs/protocol.md               digests: code that changes is read against the document
//! ```

mod client_frames;
mod digests;
mod document;
mod examples;
mod messages;
mod names;
mod positions;
mod server_frames;
mod tables;
mod vectors;
