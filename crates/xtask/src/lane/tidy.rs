//! Lane `tidy`: formatting, lints and the rules of this repository. All run, so that one pass shows everything.

use crate::failure::Failure;
use crate::step::Step;

pub(super) fn run() -> Result<(), Failure> {
    let results = [
        Step::cargo(&["fmt", "--all", "--check"]).run(),
        // As it is built without features asked for: what a person runs first.
        Step::cargo(&["clippy", "--quiet", "--package", "tidegate-gateway", "--", "--deny", "warnings"]).run(),
        Step::cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--features",
            "tidegate-gateway/tls",
            "--",
            "--deny",
            "warnings",
        ])
        .run(),
        crate::tidy::run(),
    ];
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}
