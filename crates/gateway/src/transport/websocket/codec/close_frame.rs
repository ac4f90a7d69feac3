//! The payload of a close frame (RFC 6455 §5.5.1, §7.4).

use super::violation::Violation;

/// The code and reason of a client's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// A code that may be sent. [`wire::Close`] has those that the gateway itself uses.
    pub code: u16,
    /// The reason, at most 123 bytes.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Option<Self>, Violation> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseCodeTruncated) };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return Err(Violation::CloseCode(code));
        }
        let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}

/// 1004 has no meaning. 1005, 1006 and 1015 are only for local use and are never sent. 1012–1014 were registered with
/// IANA after the RFC. 3000–3999 are registered by libraries, and 4000–4999 are private (§7.4.2).
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::{CloseFrame, Violation};

    fn parse(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, Violation> {
        CloseFrame::parse(payload)
    }

    #[test]
    fn code_and_reason_may_be_absent() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b"\x03"), Err(Violation::CloseCodeTruncated));
        assert_eq!(parse(b"\x03\xe8"), Ok(Some(CloseFrame { code: 1000, reason: "" })));
        assert_eq!(parse(b"\x0f\xa0bye"), Ok(Some(CloseFrame { code: 4000, reason: "bye" })));
    }

    #[test]
    fn only_codes_that_may_travel() {
        let accepted: Vec<u16> = (0..=u16::MAX).filter(|code| parse(&code.to_be_bytes()).is_ok()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(accepted, expected);
        assert_eq!(parse(&1005_u16.to_be_bytes()), Err(Violation::CloseCode(1005)));
    }

    #[test]
    fn the_reason_is_text() {
        assert_eq!(parse(b"\x03\xe8\xed\xa0\x80"), Err(Violation::NotUtf8));
        assert_eq!(parse(b"\x03\xe8\xc3"), Err(Violation::NotUtf8));
    }
}
