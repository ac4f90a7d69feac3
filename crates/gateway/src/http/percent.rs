//! Percent-encoding (RFC 3986 §2.1). A text is decoded once, never twice.

/// Decodes `text`. Returns `None` if an escape is invalid or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn decodes_once() {
        assert_eq!(percent_decode("auth0%7C5f").as_deref(), Some("auth0|5f"));
        assert_eq!(percent_decode("a%252F").as_deref(), Some("a%2F"));
        for broken in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }
}
