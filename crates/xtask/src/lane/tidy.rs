//! Lane `tidy`: formatting, lints, the rules of this repository, and those for its dependencies. All checks run, so that one run shows every
//! finding.

use crate::failure::Failure;
use crate::step::Step;

pub(super) fn run() -> Result<(), Failure> {
    let results = [
        Step::cargo(&["fmt", "--all", "--check"]).run(),
        // The default build, without optional features. Users build it first.
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
        crate::supply_chain::deny(),
    ];
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}
