//! Files with a secret, a key or a certificate.

use std::fs;
use std::path::Path;

use crate::auth::mistaken_secret::BYTE_ORDER_MARK;

/// Reads a file without the byte order mark that some editors write in front of it.
///
/// # Errors
/// If the file cannot be read, or is in UTF-16.
pub(super) fn read_text(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is in UTF-16, as some shells write with >; write it again in UTF-8 or ASCII".into());
    }
    Ok(bytes.strip_prefix(BYTE_ORDER_MARK).map(<[u8]>::to_vec).unwrap_or(bytes))
}
