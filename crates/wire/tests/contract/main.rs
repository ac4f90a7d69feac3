//! Compares the code, `docs/protocol.md` and `docs/vectors` with each other.
//!
//! ```text
//!   docs/vectors/*.json ──every case──▶ the code        client_frames, server_frames, messages, names, positions
//!   docs/protocol.md ──tables, examples──▶ the code     tables, examples
//!   src/*.rs ──codes, types──▶ clients/typescript        typescript
//!   src/*.rs ──digest──▶ docs/protocol.md               digests: changed code is compared with the document again
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
mod typescript;
mod vectors;
