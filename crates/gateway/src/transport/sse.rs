//! Framing of server-sent events (HTML Living Standard §9.2.5, "Parsing an event stream").

/// A comment. Clients ignore it, and it keeps the connection from being idle.
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// Appends an event without an id. Without a name it is a `message`. The text may have line ends of any kind.
pub(crate) fn write_event(name: Option<&str>, text: &[u8], out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    for line in lines(text) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Appends the time, in milliseconds, after which a client that has lost the stream reconnects.
pub(crate) fn write_retry(after_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("retry: {after_ms}\n").as_bytes());
}

/// Splits at LF, CR or CRLF. In JSON line ends occur only between tokens, where any whitespace is equivalent.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
        .enumerate()
        .filter(|(at, line)| *at == 0 || !line.is_empty())
        .map(|(_, line)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_text_is_a_field() {
        let written = |name, text: &str| {
            let mut out = Vec::new();
            write_event(name, text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(None, "{}"), "data: {}\n\n");
        assert_eq!(written(Some("gap"), "{}"), "event: gap\ndata: {}\n\n");
        assert_eq!(
            written(None, "{\n \"a\":\r\n1,\r\"b\":2}\n"),
            "data: {\ndata:  \"a\":\ndata: 1,\ndata: \"b\":2}\n\n"
        );
        assert_eq!(written(None, ""), "data: \n\n");
    }
}
