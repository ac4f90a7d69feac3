//! Every module has a comment that describes it, and no file has a catch-all name.

use super::{Finding, Source};

/// Names that could contain anything. A part that fits nowhere else needs a more precise name.
const DRAWERS: [&str; 10] =
    ["utils", "util", "helpers", "helper", "common", "core", "types", "misc", "manager", "managers"];

pub(super) fn module_doc_comes_first(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.error(1, "a module opens with `//!` and a sentence that says what it is")]
}

pub(super) fn path_names_a_thing(source: &Source) -> Vec<Finding> {
    let parts = source.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts
        .filter(|part| DRAWERS.contains(part))
        .map(|part| source.error(0, format!("`{part}` is a drawer: name the thing that lies in it")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_sentence_is_found() {
        assert_eq!(module_doc_comes_first(&Source::new("a.rs", "use std::fmt;\n//! late\n")).len(), 1);
        assert_eq!(module_doc_comes_first(&Source::new("a.rs", "//! A thing.\n")), []);
    }

    #[test]
    fn drawers_are_found_as_files_and_as_directories() {
        let found = |path: &str| path_names_a_thing(&Source::new(path, "")).len();
        assert_eq!(found("crates/gateway/src/utils.rs"), 1);
        assert_eq!(found("crates/common/src/lib.rs"), 1);
        assert_eq!(found("crates/gateway/src/score.rs"), 0);
    }
}
