//! Digests of the source files that define the contract: a change of these files requires a look at `docs/protocol.md`.

use std::path::Path;

use crate::document::Document;

/// The source files that `docs/protocol.md` describes, without their extension.
const FILES: [&str; 11] = [
    "channel",
    "client_frame",
    "close",
    "error_code",
    "id",
    "limits",
    "message",
    "position",
    "server_frame",
    "server_frame/json",
    "websocket_frame",
];

/// FNV-1a with 64 bits. It finds accidental changes; it does not protect against an adversary.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn the_digest_is_fnv_1a() {
    assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn the_document_has_been_read_against_this_code() {
    let recorded = Document::read("CONTRIBUTING.md").table("digests");
    let path_of = |name: &str| format!("crates/wire/src/{name}.rs");
    let listed: Vec<&str> = recorded.iter().map(|row| &*row[0]).collect();
    assert_eq!(listed, FILES.map(path_of), "the table of digests in CONTRIBUTING.md lists these files");
    let mut changed = Vec::new();
    for (name, row) in FILES.iter().zip(&recorded) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).with_extension("rs");
        let digest = format!("{:016x}", fnv_1a(&std::fs::read(&path).unwrap()));
        if digest != row[1] {
            changed.push(format!("| `{}` | `{digest}` |", path_of(name)));
        }
    }
    assert!(
        changed.is_empty(),
        "This code has changed since docs/protocol.md was last read against it.\n\
         Read what the document says of it, correct the document and docs/vectors where the contract changed, and \
         only then record the new digest in CONTRIBUTING.md:\n\n{}\n",
        changed.join("\n")
    );
}
