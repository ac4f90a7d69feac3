//! A line of Redis' `MONITOR`: `+1795268761.667829 [0 127.0.0.1:51234] "FCALL" "tidegate_registry_renew" …`.

/// One command that Redis executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MonitorLine {
    /// A function executed it, within the call of the preceding line.
    pub(crate) is_inner: bool,
    pub(crate) words: Vec<Vec<u8>>,
}

impl MonitorLine {
    /// Returns `None` for the reply to `MONITOR` itself, and for any other line.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"+")?;
        let open = rest.iter().position(|byte| *byte == b'[')?;
        let close = open + rest[open..].iter().position(|byte| *byte == b']')?;
        let is_inner = rest[open..close].ends_with(b" lua");
        let words = words(&rest[close + 1..])?;
        (!words.is_empty()).then_some(Self { is_inner, words })
    }

    /// The word at `index` as text, or an empty text.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.words.get(index).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default()
    }
}

/// The quoted words, without their escapes.
fn words(mut rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    while let Some(at) = rest.iter().position(|byte| *byte == b'"') {
        let (mut word, mut bytes) = (Vec::new(), rest[at + 1..].iter());
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => word.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [*bytes.next()?, *bytes.next()?];
                        u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                    }
                    other => *other,
                }),
                byte => word.push(*byte),
            }
        }
        words.push(word);
        rest = bytes.as_slice();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_and_what_it_did_are_read() {
        let call = MonitorLine::parse(br#"+1.5 [0 127.0.0.1:7] "FCALL" "a\"b\\" "\x00\xff\n" """#).unwrap();
        assert!(!call.is_inner);
        assert_eq!(call.words, [b"FCALL".to_vec(), br#"a"b\"#.to_vec(), vec![0, 255, b'\n'], Vec::new()]);
        assert!(MonitorLine::parse(br#"+1.5 [0 lua] "GET" "k""#).unwrap().is_inner);
        assert_eq!(MonitorLine::parse(b"+OK"), None);
    }
}
