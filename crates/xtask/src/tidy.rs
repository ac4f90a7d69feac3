//! The rules of this repository, checked over its source text and its crate graph.
//!
//! Each rule is a function from a [`Source`] to [`Finding`]s and has a test with a planted violation. The rules read
//! tokens, not a syntax tree: [`Source`] separates code from comments and strings, and that is enough.

mod edges;
mod length;
mod literals;
mod markers;
mod modules;
mod names;
mod source;
mod walk;
mod words;

use std::fmt;

use crate::failure::Failure;
use crate::workspace;

pub(crate) use source::Source;

/// Whether a finding fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Error,
    Warning,
}

/// One violation of a rule, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    /// The line, counted from 1. It is 0 if the finding is about the whole file.
    line: usize,
    weight: Weight,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = if self.weight == Weight::Error { "error" } else { "warning" };
        write!(f, "{weight}: {}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The rules for every Rust file.
const RULES: &[fn(&Source) -> Vec<Finding>] = &[
    names::module_doc_comes_first,
    names::path_names_a_thing,
    length::files_stay_short,
    length::functions_stay_short,
    literals::redis_names_live_in_keyspace,
    literals::redis_client_stays_behind_its_seams,
    literals::environment_is_read_in_config,
    markers::nothing_is_left_for_later,
    markers::no_test_is_ignored,
    markers::allowances_carry_a_reason,
    words::retired_names_stay_away,
];

/// Checks all rules and prints the findings. Fails if one of them is an error.
pub(crate) fn run() -> Result<(), Failure> {
    let (files, findings) = check()?;
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    println!("tidy: {files} files, {errors} errors, {} warnings", findings.len() - errors);
    if errors == 0 { Ok(()) } else { Err(Failure::new(format!("tidy found {errors} errors"))) }
}

fn check() -> Result<(usize, Vec<Finding>), Failure> {
    let sources = walk::rust_files(workspace::root())?;
    let mut findings: Vec<Finding> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(move |rule| rule(source))).collect();
    findings.extend(modules::import_in_one_direction(&sources));
    findings.extend(modules::gateway_has_few_folders(&sources));
    findings.extend(edges::equal_the_drawing(&edges::metadata()?));
    Ok((sources.len(), findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let (files, findings) = check().unwrap();
        assert!(files > 20, "only {files} files were looked at");
        let errors: Vec<String> =
            findings.iter().filter(|finding| finding.weight == Weight::Error).map(Finding::to_string).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }
}
