//! The answer to a client's `Sec-WebSocket-Key` (RFC 6455 §4.2.2).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

/// Bytes of the nonce that a key encodes.
const NONCE_BYTES: usize = 16;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Some clients send 22 random letters instead of encoding 16 random bytes. The last letter then has four extra bits,
/// which are harmless.
const KEY: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The value of `Sec-WebSocket-Accept`, or `None` when the key is not 16 bytes in base64.
#[must_use]
pub fn accept_key(client_key: &str) -> Option<String> {
    // The size that the decoder estimates: three bytes for every four letters, rounded up, of 24 letters.
    let mut nonce = [0; NONCE_BYTES + 2];
    if KEY.decode_slice(client_key, &mut nonce).ok()? != NONCE_BYTES {
        return None;
    }
    let digest = Sha1::new().chain_update(client_key).chain_update(GUID).finalize();
    Some(STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::accept_key;

    #[test]
    fn the_rfcs_example() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25j",             // 15 bytes
            "dGhlIHNhbXBsZSBub25jZWU=",         // 17
            "dGhlIHNhbXBsZSBub25jZQ",           // without padding
            "dGhlIHNhbXBsZSBub25jZQ=",          // half of it
            "dGhlIHNhbXBsZSBub25jZ$==",         // no base64
            " dGhlIHNhbXBsZSBub25jZQ==",        // a leading space
            "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNh", // extra letters
        ] {
            assert_eq!(accept_key(key), None, "{key:?}");
        }
        assert_eq!(accept_key(&"A".repeat(1 << 16)), None);
    }

    #[test]
    fn letters_drawn_at_random_will_do() {
        // The last letter before the padding has bits that belong to no byte.
        assert!(accept_key("abcdefghijklmnopqrstuv==").is_some());
    }
}
