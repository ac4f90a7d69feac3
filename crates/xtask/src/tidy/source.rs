//! One Rust file, with its code separated from its comments and strings.

use super::{Finding, Weight};

/// A file and three views of it. All views have the same length and the same line breaks, so that an offset in one view
/// is the same offset in the others. Text that does not belong to a view is blank there.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path from the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The code without comments. String and character literals are blank.
    pub(crate) code: String,
    /// Only the string literals, with their quotes.
    pub(crate) strings: String,
    /// Only the comments. All other text is blank.
    pub(crate) comments: String,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let kinds = Lexer { bytes: text.as_bytes(), at: 0, kinds: vec![TokenKind::Code; text.len()] }.run();
        let view = |wanted: TokenKind| -> String {
            text.char_indices().map(|(at, c)| if c == '\n' || kinds[at] == wanted { c } else { blank(c) }).collect()
        };
        Self {
            path,
            code: view(TokenKind::Code),
            strings: view(TokenKind::Text),
            comments: view(TokenKind::Comment),
            text,
        }
    }

    /// Whether the file belongs to tests, examples or benchmarks and not to a program.
    pub(crate) fn is_test(&self) -> bool {
        ["/tests/", "/examples/", "/benches/", "/tests.rs", "crates/test-support/"]
            .iter()
            .any(|part| self.path.contains(part))
    }

    /// The line, counted from 1, of the byte at `at`.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub(super) fn error(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, weight: Weight::Error, what: what.into() }
    }

    pub(super) fn warning(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, weight: Weight::Warning, what: what.into() }
    }
}

/// A blank with as many bytes as `c`, so that byte offsets do not change.
fn blank(c: char) -> char {
    match c.len_utf8() {
        1 => ' ',
        2 => '\u{a0}',
        3 => '\u{2003}',
        _ => '\u{1d15a}',
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Code,
    Text,
    /// A character literal: neither code nor a name that a rule searches for.
    Character,
    Comment,
}

/// Marks each byte with its kind. It knows line comments, nested block comments, plain, byte, C and raw strings, and
/// the difference between characters and lifetimes. It knows nothing else of Rust.
struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    kinds: Vec<TokenKind>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<TokenKind> {
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(b"//") {
                let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                self.mark(end, TokenKind::Comment);
            } else if rest.starts_with(b"/*") {
                self.mark(block_comment_bytes(rest), TokenKind::Comment);
            } else if let Some(hashes) = self.raw_string_opens() {
                self.mark(raw_string_bytes(rest, hashes), TokenKind::Text);
            } else if rest[0] == b'"' {
                self.mark(quoted_bytes(rest, b'"'), TokenKind::Text);
            } else if is_character(rest) {
                self.mark(quoted_bytes(rest, b'\''), TokenKind::Character);
            } else {
                self.at += 1;
            }
        }
        self.kinds
    }

    fn mark(&mut self, bytes: usize, kind: TokenKind) {
        let end = (self.at + bytes).min(self.kinds.len());
        self.kinds[self.at..end].fill(kind);
        self.at = end;
    }

    /// The number of `#` at `r"`, `r#"`, `br##"`…. `r#type` is a name, and `for"` does not occur in this repository.
    fn raw_string_opens(&self) -> Option<usize> {
        let rest = &self.bytes[self.at..];
        let in_a_name =
            self.at > 0 && is_name_byte(self.bytes[self.at - 1]) && !matches!(self.bytes[self.at - 1], b'b' | b'c');
        if rest[0] != b'r' || in_a_name {
            return None;
        }
        let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
        (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(rest: &[u8]) -> bool {
    if rest[0] != b'\'' {
        return false;
    }
    match rest.get(1) {
        Some(b'\\') => true,
        Some(&first) => {
            let bytes = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            rest.get(1 + bytes) == Some(&b'\'')
        }
        None => false,
    }
}

fn quoted_bytes(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_bytes(rest: &[u8], hashes: usize) -> usize {
    let close: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let opened = 2 + hashes;
    rest[opened..]
        .windows(close.len())
        .position(|bytes| bytes == close)
        .map_or(rest.len(), |at| opened + at + close.len())
}

fn block_comment_bytes(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(text: &str) -> (String, String, String) {
        let source = Source::new("x.rs", text);
        assert!([&source.code, &source.strings, &source.comments].iter().all(|view| view.len() == text.len()));
        (source.code, source.strings, source.comments)
    }

    #[test]
    fn code_strings_and_comments_are_parted() {
        let (code, strings, comments) = views(r#"let a = "b // c"; // d "e""#);
        assert_eq!(code.trim_end(), format!("let a = {};", " ".repeat(r#""b // c""#.len())));
        assert_eq!(strings.trim(), r#""b // c""#);
        assert_eq!(comments.trim(), r#"// d "e""#);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let (code, strings, _) = views("f(r##\"a \"# { b\"##, br\"{\", r#type)");
        assert_eq!(strings.split_whitespace().collect::<String>(), "r##\"a\"#{b\"##r\"{\"");
        assert!(code.ends_with("r#type)"));
        assert!(!code.contains('{'));
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_not() {
        let (code, ..) = views("fn f<'a>(x: &'a str) -> char { if x == \"\" { '{' } else { '\\'' } }");
        assert!(code.contains("<'a>") && code.contains("&'a str"));
        assert_eq!(code.matches('{').count(), code.matches('}').count());
    }

    #[test]
    fn block_comments_nest_and_wide_characters_keep_places() {
        let (code, _, comments) = views("a /* ä /* → */ 𝄞 */ b");
        assert!(code.starts_with('a') && code.ends_with('b'));
        assert!(comments.contains("/* → */ 𝄞 */"));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source::new("x.rs", "a\nb\n");
        assert_eq!((source.line_of(0), source.line_of(2)), (1, 2));
    }
}
