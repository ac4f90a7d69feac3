//! Finds the server-sent events in bytes that can end anywhere (HTML Living Standard §9.2.6). Pure.
//!
//! Lines end in LF, the only line end that the gateway writes. A blank line ends an event.

use std::borrow::Cow;

use crate::frame_walker::{BadFrame, FRAME_BYTES_MAX};

/// A complete event within a buffer. A browser dispatches it only if it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// All its lines and the blank line, as received.
    pub(crate) bytes: &'a [u8],
    /// The value of `event:`. A message has none.
    pub(crate) name: Option<&'a [u8]>,
    /// The values of `data:`, joined by LF. A comment, or an id alone, has none.
    pub(crate) data: Option<Cow<'a, [u8]>>,
}

/// The first event of `bytes`, or `None` if it is not complete yet.
pub(crate) fn next_event(bytes: &[u8]) -> Result<Option<Event<'_>>, BadFrame> {
    let (mut name, mut data, mut at) = (None, None::<Cow<'_, [u8]>>, 0);
    while let Some(len) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[at..at + len];
        at += len + 1;
        if line.is_empty() {
            return Ok(Some(Event { bytes: &bytes[..at], name, data }));
        }
        if let Some(value) = value_of(line, b"data") {
            match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(joined) => joined.to_mut().extend([b"\n", value].concat()),
            }
        } else if let Some(value) = value_of(line, b"event") {
            name = Some(value);
        }
    }
    if bytes.len() < FRAME_BYTES_MAX { Ok(None) } else { Err(BadFrame) }
}

/// The value of a line `field:value`. One space after the colon is not part of it.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(field)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 897\nevent: welcome\ndata: {\"type\":\"welcome\"}\n\n\
        :\n\n\
        id: s;a/1-1\ndata: {\"n\":1}\n\n\
        :/1-2\ndata: {\ndata:\"n\":2\ndata:   }\n\n\
        id: s;a/1-3\n\n\
        data:\n\n";

    fn expected() -> [(Option<&'static str>, Option<&'static str>); 6] {
        [
            (Some("welcome"), Some(r#"{"type":"welcome"}"#)),
            (None, None),
            (None, Some(r#"{"n":1}"#)),
            (None, Some("{\n\"n\":2\n  }")),
            (None, None),
            (None, Some("")),
        ]
    }

    /// Parses `stream` in two pieces, split at `cut`, and keeps a tail between them as the receivers do.
    fn walk_in_two(stream: &[u8], cut: usize) -> Vec<(Option<String>, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the stream is UTF-8");
        let (mut seen, mut tail) = (Vec::new(), Vec::new());
        for piece in [&stream[..cut], &stream[cut..]] {
            tail.extend_from_slice(piece);
            let mut at = 0;
            while let Some(event) = next_event(&tail[at..]).expect("the events are short") {
                seen.push((event.name.map(text), event.data.as_deref().map(text)));
                at += event.bytes.len();
            }
            tail.drain(..at);
        }
        assert!(tail.is_empty(), "bytes left over after cut {cut}");
        seen
    }

    #[test]
    fn events_survive_a_cut_at_every_byte() {
        let expected = expected().map(|(name, data)| (name.map(str::to_owned), data.map(str::to_owned)));
        for cut in 0..=STREAM.len() {
            assert_eq!(walk_in_two(STREAM.as_bytes(), cut), expected, "cut {cut}");
        }
    }

    #[test]
    fn an_event_is_returned_with_all_its_bytes_and_no_more() {
        let bytes = b"id: 1\ndata: {}\n\ndata: next\n\n";
        let event = next_event(bytes).expect("short").expect("complete");
        assert_eq!(event.bytes, b"id: 1\ndata: {}\n\n");
        assert!(matches!(event.data, Some(Cow::Borrowed(b"{}"))), "one line of data is not copied");
    }

    #[test]
    fn comments_and_other_fields_are_ignored() {
        let event = next_event(b":data: a\ndata: b\ndatax: c\nevents: d\ndata\n\n").expect("short").expect("complete");
        assert_eq!((event.name, event.data.as_deref()), (None, Some(&b"b"[..])));
    }

    #[test]
    fn an_event_that_does_not_end_is_refused() {
        assert_eq!(next_event(&[b'x'; FRAME_BYTES_MAX - 1]), Ok(None));
        assert_eq!(next_event(&[b'x'; FRAME_BYTES_MAX]), Err(BadFrame));
    }
}
