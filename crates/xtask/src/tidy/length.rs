//! Limits for the length of files and functions.

use super::{Finding, Source};

/// A function must fit on one screen.
const FUNCTION_LINES_MAX: usize = 70;
/// A longer file probably covers two concepts.
const FILE_LINES_WARN: usize = 300;
const FILE_LINES_MAX: usize = 500;
/// A test suite is a list, so it may be longer.
const SUITE_LINES_MAX: usize = 800;

pub(super) fn files_stay_short(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let max = if source.is_test() { SUITE_LINES_MAX } else { FILE_LINES_MAX };
    let what = format!("{lines} lines: is this still one noun? (look hard above {FILE_LINES_WARN}, split above {max})");
    match lines {
        _ if lines > max => vec![source.error(0, what)],
        _ if lines > FILE_LINES_WARN => vec![source.warning(0, what)],
        _ => Vec::new(),
    }
}

/// Counts the lines from `fn` to the closing brace. Braces are matched in the code view, which has no braces of strings
/// or comments. The lines of a nested function count for both functions.
pub(super) fn functions_stay_short(source: &Source) -> Vec<Finding> {
    function_starts(&source.code)
        .filter_map(|at| {
            let lines = source.code[at..body_end(&source.code, at)?].lines().count();
            (lines > FUNCTION_LINES_MAX).then(|| {
                source.error(
                    source.line_of(at),
                    format!("a function of {lines} lines; at most {FUNCTION_LINES_MAX} fit on a screen"),
                )
            })
        })
        .collect()
}

/// Finds every `fn` before a name. `fn(` is a type.
fn function_starts(code: &str) -> impl Iterator<Item = usize> + '_ {
    code.match_indices("fn ").map(|(at, _)| at).filter(|&at| {
        let before = code[..at].chars().next_back();
        let name = code[at + 3..].trim_start().chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && name.is_some_and(|c| c.is_alphabetic() || c == '_')
    })
}

/// The offset after the brace that closes the body, or `None` for a signature that ends with `;`.
fn body_end(code: &str, start: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0i32, 0i32);
    for (offset, byte) in code[start..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            // The `;` of an array type in the signature is inside brackets.
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(start + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Weight;

    fn function_of(lines: usize) -> Source {
        Source::new(
            "a.rs",
            format!("//! x\nfn long(x: [u8; 4]) -> char {{\n{}    '}}'\n}}\n", "    f(\"}\");\n".repeat(lines - 3)),
        )
    }

    #[test]
    fn a_function_of_71_lines_is_found_at_its_line() {
        assert_eq!(functions_stay_short(&function_of(70)), []);
        let found = functions_stay_short(&function_of(71));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].weight), (2, Weight::Error));
        assert!(found[0].what.starts_with("a function of 71 lines"));
    }

    #[test]
    fn signatures_and_function_types_have_no_length() {
        let text = format!("trait T {{ fn f(&self, x: [u8; 4]); }}\nconst F: fn (u8) = g;\n{}", "//\n".repeat(100));
        assert_eq!(functions_stay_short(&Source::new("a.rs", text)), []);
    }

    #[test]
    fn long_files_are_warned_about_then_refused() {
        let weight =
            |lines: usize| files_stay_short(&Source::new("a.rs", "x\n".repeat(lines))).first().map(|f| f.weight);
        assert_eq!(weight(300), None);
        assert_eq!(weight(301), Some(Weight::Warning));
        assert_eq!(weight(500), Some(Weight::Warning));
        assert_eq!(weight(501), Some(Weight::Error));
        let suite = |lines: usize| files_stay_short(&Source::new("crates/a/tests/b.rs", "x\n".repeat(lines)))[0].weight;
        assert_eq!([suite(800), suite(801)], [Weight::Warning, Weight::Error]);
    }
}
