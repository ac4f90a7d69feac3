//! `clients/typescript/src/protocol.ts` has the codes, types and limits of this crate.
//!
//! `TIDEGATE_WRITE=1 cargo test -p wire --test contract typescript` writes the file.

use std::fmt::{Display, Write};
use std::path::Path;

use wire::{AckLevel, Close, ErrorCode, GapReason};

use crate::tables::{client_types, server_types};

const PATH: &str = "clients/typescript/src/protocol.ts";

const HEAD: &str = "\
// The codes, types and limits of the protocol. Generated from crates/wire by
// `TIDEGATE_WRITE=1 cargo test -p wire --test contract typescript`: do not edit.
import { refusalClass, type RefusalClass } from \"./error.js\";
";

/// The name of a class: `TokenExpiredError` for `token_expired`.
fn class_of(code: ErrorCode) -> String {
    let words = code.as_str().split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect::<String>() + "Error"
}

/// `TokenExpired` as the name of a constant: `TOKEN_EXPIRED`.
fn shouted(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

fn list(out: &mut String, doc: &str, name: &str, items: &[impl Display]) {
    let items = items.iter().map(|item| format!("  \"{item}\",\n")).collect::<String>();
    write!(out, "\n/** {doc} */\nexport const {name} = [\n{items}] as const;\n").unwrap();
}

/// The ranges of codes after which a client comes back.
fn reconnect_ranges() -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for code in (0..=u16::MAX).filter(|code| Close::should_reconnect(*code)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    ranges
}

fn rendered() -> String {
    let mut out = HEAD.to_owned();
    list(&mut out, "The types of frames that a client sends.", "CLIENT_TYPES", client_types());
    list(&mut out, "The types of control frames that the gateway sends.", "GATEWAY_TYPES", server_types());
    list(&mut out, "What is true of an acknowledged message.", "ACK_LEVELS", &AckLevel::ALL.map(AckLevel::as_str));
    list(&mut out, "Why messages may be missing.", "GAP_REASONS", &GapReason::ALL.map(GapReason::as_str));

    out.push('\n');
    for close in Close::ALL {
        let (name, code) = (shouted(&format!("{close:?}")), close.code());
        writeln!(out, "/** Close code: {}. */\nexport const CLOSE_{name} = {code};", close.reason()).unwrap();
    }
    let ranges = reconnect_ranges().iter().map(|(first, last)| format!("[{first}, {last}]")).collect::<Vec<_>>();
    writeln!(
        out,
        "\n/** The close codes after which a client comes back: first and last of each range. */\n\
         export const RECONNECT_RANGES: readonly (readonly [number, number])[] = [{}];",
        ranges.join(", ")
    )
    .unwrap();

    list(&mut out, "The codes of `error` frames.", "ERROR_CODES", &ErrorCode::ALL.map(ErrorCode::as_str));
    out.push('\n');
    for code in ErrorCode::ALL {
        let (class, code, retry) = (class_of(code), code.as_str(), if code.retryable() { "is" } else { "is not" });
        writeln!(
            out,
            "/** `{code}`: {retry} retryable. */\n\
             export const {class}: RefusalClass<\"{code}\"> = /* @__PURE__ */ refusalClass(\"{code}\");"
        )
        .unwrap();
    }

    macro_rules! limits {
        ($($name:ident),*) => {
            $(writeln!(out, "export const {} = {};", stringify!($name), wire::$name).unwrap();)*
        };
    }
    out.push('\n');
    limits![CHANNEL_BYTES_MAX, PUBLISH_ID_BYTES_MAX, CHANNELS_PER_CONNECTION_MAX, BINARY_HEADER_BYTES_MAX];
    writeln!(out, "export const SUBPROTOCOL = \"{}\";", wire::SUBPROTOCOL).unwrap();
    out
}

#[test]
fn the_client_library_has_the_codes_and_types_of_this_crate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PATH);
    let rendered = rendered();
    if std::env::var_os("TIDEGATE_WRITE").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == rendered,
        "{PATH} is not current. Write it by: TIDEGATE_WRITE=1 cargo test -p wire --test contract typescript"
    );
}
