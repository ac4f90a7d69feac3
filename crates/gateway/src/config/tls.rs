//! The certificate and the key of the main port: `[tls]`.

use super::raw::RawConfig;
#[cfg(feature = "tls")]
use super::text_file::read_text;
use crate::transport::tls::Tls;

const CERTIFICATE: &str = "tls.cert_file";
const KEY: &str = "tls.key_file";

/// Reads both files and checks that they belong together. Returns `None` if neither is configured.
#[cfg(feature = "tls")]
pub(super) fn check_tls(raw: &RawConfig) -> Option<Tls> {
    let (certificate, key) = match (raw.optional_text(CERTIFICATE), raw.optional_text(KEY)) {
        (None, None) => return None,
        (certificate, key) => (read(raw, CERTIFICATE, certificate), read(raw, KEY, key)),
    };
    // A file that cannot be read is already reported; the other file is still checked.
    let (certificate, key) = (certificate.as_deref(), key.as_deref());
    let bad = match Tls::from_pem(certificate.unwrap_or_default(), key.unwrap_or_default()) {
        Ok(tls) => return Some(tls),
        Err(bad) => bad,
    };
    if let (Some(what), true) = (bad.certificate, certificate.is_some()) {
        raw.wrong(CERTIFICATE, format!("a PEM file with the certificate and the chain behind it; {what}"));
    }
    if let (Some(what), true) = (bad.key, key.is_some()) {
        raw.wrong(KEY, format!("a PEM file with the private key of the certificate, not encrypted; {what}"));
    }
    None
}

#[cfg(feature = "tls")]
fn read(raw: &RawConfig, name: &'static str, path: Option<&str>) -> Option<Vec<u8>> {
    let Some(path) = path else {
        let other = if name == KEY { CERTIFICATE } else { KEY };
        raw.wrong(name, format!("a file, because {other} is set; TLS needs both"));
        return None;
    };
    read_text(path.as_ref()).map_err(|error| raw.wrong(name, format!("a file that can be read: {error}"))).ok()
}

/// Reports a problem for each configured file: a gateway that is configured for TLS must not start without it.
#[cfg(not(feature = "tls"))]
pub(super) fn check_tls(raw: &RawConfig) -> Option<Tls> {
    for name in [CERTIFICATE, KEY].into_iter().filter(|name| raw.optional_text(name).is_some()) {
        raw.wrong(name, "a gateway with TLS, and this one is built without it: cargo build --release --features tls");
    }
    None
}
