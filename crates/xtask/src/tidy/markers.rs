//! No open-work markers, no sleeping tests, and no silenced lint without a reason.

use super::{Finding, Source};

/// Markers that comments may not contain. They are split, so that this file may contain them.
const COMMENT_MARKERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const CODE_MARKERS: [&str; 2] = ["todo!", "unimplemented!"];

pub(super) fn nothing_is_left_for_later(source: &Source) -> Vec<Finding> {
    let in_view = |view: &str, marker: &str| -> Vec<Finding> {
        let places = view.match_indices(marker).map(|(at, _)| at);
        let error =
            |at| source.error(source.line_of(at), format!("`{marker}`: finish it, or write it down as an issue"));
        places.map(error).collect()
    };
    let comments = COMMENT_MARKERS.iter().flat_map(|marker| in_view(&source.comments, marker));
    comments.chain(CODE_MARKERS.iter().flat_map(|marker| in_view(&source.code, marker))).collect()
}

pub(super) fn no_test_is_ignored(source: &Source) -> Vec<Finding> {
    let ignored = source.code.match_indices("#[ignore").map(|(at, _)| source.line_of(at));
    ignored.map(|line| source.error(line, "an ignored test guards nothing: mend it or delete it")).collect()
}

/// The reason is in `reason = "…"`, or in a comment on the same line or on the line above.
pub(super) fn allowances_carry_a_reason(source: &Source) -> Vec<Finding> {
    let lines: Vec<(&str, &str)> = source.code.lines().zip(source.comments.lines()).collect();
    let silenced = lines.iter().enumerate().filter(|(_, (code, _))| {
        ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|word| code.contains(word))
    });
    silenced
        .filter(|(at, (code, comment))| {
            let above = at.checked_sub(1).map_or("", |above| lines[above].1);
            !code.contains("reason") && comment.trim().is_empty() && above.trim().is_empty()
        })
        .map(|(at, _)| source.error(at + 1, "a silenced lint carries its reason"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn markers_are_found_in_comments_and_code_but_not_in_strings() {
        let text = format!(
            "//! x\n// {}: later\nfn f() {{ todo!() }}\nconst S: &str = \"{}\";\n",
            COMMENT_MARKERS[0], COMMENT_MARKERS[1]
        );
        assert_eq!(lines(&nothing_is_left_for_later(&Source::new("a.rs", text))), [2, 3]);
    }

    #[test]
    fn ignored_tests_are_found() {
        let text = "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n// #[ignore] in words\n";
        assert_eq!(lines(&no_test_is_ignored(&Source::new("a.rs", text))), [3]);
    }

    #[test]
    fn allowances_without_a_reason_are_found() {
        let text = "//! x\n\n#[allow(unused)]\nfn a() {}\n\n// the macro wants it\n#[allow(unused)]\nfn b() {}\n\
                    \n#[expect(unused, reason = \"why\")]\nfn c() {}\n#[allow(unused)] // why\nfn d() {}\n";
        assert_eq!(lines(&allowances_carry_a_reason(&Source::new("a.rs", text))), [3]);
    }
}
